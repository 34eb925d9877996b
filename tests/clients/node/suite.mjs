// Scenarios of the official OpenAI client for Node: `node suite.mjs NAME` with BASE_URL, API_KEY and MODEL in the
// environment prints what the client saw as one JSON document; the Python test compares it with the bill.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = process.env.MODEL;
const messages = [{ role: "user", content: "Tell me about the sea." }];
// The small model never draws a token that ends its answer: for those that are broken off.
const endless = { 0: -100, 2: -100 };
const client = (options = {}) =>
  new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0, ...options });
const ask = (more = {}, options = {}) =>
  client(options).chat.completions.create({ model, messages, max_tokens: 12, ...more });

const Weather = z.object({ sky: z.enum(["clear", "cloudy"]), warm: z.boolean() });
const city = { type: "string", enum: ["Oslo", "Rome", "Lima"] };
const tool = (name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: { city }, required: ["city"], additionalProperties: false } },
});

/** What a refusal looks like to the client: its class, status, code and parameter. */
async function refused(work) {
  try {
    await work();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null, param: error.param ?? null };
  }
  return { kind: "none" };
}

const scenarios = {
  async chat() {
    const answer = await ask({ temperature: 0 });
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason, usage: answer.usage, x: answer.x_tirami };
  },

  async stream() {
    const chunks = [];
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);
    const last = chunks.at(-1);
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    return { text, early: chunks.slice(0, -1).filter((chunk) => chunk.usage).length, usage: last.usage, x: last.x_tirami };
  },

  async helper() {
    const answer = await client().chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 }).finalChatCompletion();
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
  },

  async seed() {
    const said = async (seed) => (await ask({ seed, temperature: 1.2, max_tokens: 24 })).choices[0].message.content;
    return { same: [await said(7), await said(7)], others: [await said(8), await said(9)] };
  },

  async models() {
    const listed = [];
    for await (const entry of client().models.list()) listed.push(entry.id);
    return { listed, found: (await client().models.retrieve(model)).id };
  },

  async errors() {
    return {
      unknown: await refused(() => ask({}, { apiKey: "nobody's" })),
      absent: await refused(() => ask({ model: "gpt-9" })),
      foreign: await refused(() => ask({ mirostat: 2 })),
      poor: await refused(() => ask({ max_tokens: 1900 }, { maxRetries: 3 })),
    };
  },

  async denied() {
    return refused(() => ask({ max_tokens: 900 }, { maxRetries: 3 }));
  },

  async full() {
    const long = [{ role: "user", content: "[[delay_ms=20]] go on" }];
    const running = await ask({ messages: long, max_tokens: 50, stream: true });
    const chunks = running[Symbol.asyncIterator]();
    await chunks.next();
    const hasty = await refused(() => ask());
    const drained = (async () => { while (!(await chunks.next()).done); })();
    const patient = await ask({}, { maxRetries: 5 });
    await drained;
    return { hasty, tokens: patient.usage.completion_tokens };
  },

  async leave() {
    let pieces = 0;
    for await (const chunk of await ask({ max_tokens: 900, logit_bias: endless, stream: true })) {
      pieces += chunk.choices[0].delta.content ? 1 : 0;
      if (pieces === 5) break;
    }
    return { pieces };
  },

  async abort() {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 500);
    const asked = { model, messages, max_tokens: 900, logit_bias: endless };
    return refused(() => client().chat.completions.create(asked, { signal: controller.signal }));
  },

  async cut() {
    const answer = await ask({ max_tokens: 64 }, { maxRetries: 2 });
    return { usage: answer.usage, x: answer.x_tirami };
  },

  async lost() {
    return refused(() => ask({ max_tokens: 200 }));
  },

  async stop() {
    const still = { seed: 11, temperature: 0, max_tokens: 40 };
    const text = (await ask(still)).choices[0].message.content;
    const word = text.split(/\s+/).filter(Boolean)[8];
    const stopped = (await ask({ ...still, stop: word })).choices[0];
    return { expected: text.slice(0, text.indexOf(word)), said: stopped.message.content, finish: stopped.finish_reason };
  },

  async choices() {
    const answer = await ask({ n: 3, temperature: 1.3 });
    return { indexes: answer.choices.map((choice) => choice.index), usage: answer.usage, x: answer.x_tirami };
  },

  async logprobs() {
    const [choice] = (await ask({ logprobs: true, top_logprobs: 2 })).choices;
    return { tokens: choice.logprobs.content.map((entry) => entry.token), text: choice.message.content };
  },

  async schema() {
    const response_format = zodResponseFormat(Weather, "weather");
    const answer = await client().chat.completions.parse({ model, messages, max_tokens: 120, response_format });
    return { parsed: answer.choices[0].message.parsed, usage: answer.usage, x: answer.x_tirami };
  },

  async tools() {
    const tools = [tool("weather"), tool("tide")];
    const call = async (tool_choice, max_tokens = 80) => {
      const [choice] = (await ask({ max_tokens, tools, tool_choice })).choices;
      return { finish: choice.finish_reason, content: choice.message.content, call: choice.message.tool_calls?.[0]?.function ?? null };
    };
    const named = { type: "function", function: { name: "tide" } };
    return { required: await call("required"), named: await call(named), none: await call("none", 16), auto: await call("auto", 16) };
  },

  async streamed_tool() {
    const asked = { model, messages, max_tokens: 120, tools: [tool("weather")], tool_choice: "required" };
    const answer = await client().chat.completions.stream(asked).finalChatCompletion();
    return answer.choices[0].message.tool_calls[0].function;
  },

  async others() {
    const completed = await client().completions.create({ model, prompt: "The sea is", max_tokens: 8 });
    const vectors = await client().embeddings.create({ model, input: ["The sea", "A ship"] });
    const response = await client().responses.create({ model, input: "The sea", max_output_tokens: 8 });
    let streamed = "";
    for await (const event of await client().responses.create({ model, input: "The sea", max_output_tokens: 8, stream: true }))
      if (event.type === "response.output_text.delta") streamed += event.delta;
    return { text: completed.choices[0].text, sizes: vectors.data.map((entry) => entry.embedding.length), said: response.output_text, streamed };
  },
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
