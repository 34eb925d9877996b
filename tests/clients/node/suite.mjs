// Scenarios of the official OpenAI client for Node: `node suite.mjs NAME` with BASE_URL, API_KEY and MODEL in the
// environment prints what the client saw as one JSON document; the Python test compares it with the bill.
import OpenAI from "openai";

const model = process.env.MODEL;
const messages = [{ role: "user", content: "Tell me about the sea." }];
const client = (options = {}) =>
  new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0, ...options });
const ask = (more = {}, options = {}) =>
  client(options).chat.completions.create({ model, messages, max_tokens: 12, ...more });

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
    const answer = await ask();
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
    const answer = await client().chat.completions.stream({ model, messages, max_tokens: 12 }).finalChatCompletion();
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
    for await (const chunk of await ask({ max_tokens: 900, stream: true })) {
      pieces += chunk.choices[0].delta.content ? 1 : 0;
      if (pieces === 5) break;
    }
    return { pieces };
  },

  async abort() {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 500);
    return refused(() => client().chat.completions.create({ model, messages, max_tokens: 900 }, { signal: controller.signal }));
  },

  async cut() {
    const answer = await ask({ max_tokens: 64 }, { maxRetries: 2 });
    return { usage: answer.usage, x: answer.x_tirami };
  },

  async lost() {
    return refused(() => ask({ max_tokens: 200 }));
  },
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
