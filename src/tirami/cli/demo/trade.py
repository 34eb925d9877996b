"""The steps of ``tirami demo --two-nodes``: a trade, a cheat, a consumer that vanishes."""

from collections.abc import Callable

from tirami.cli.demo.pair import LOST, WINDOW, Pair, told, until
from tirami.cli.demo.report import expect

Step = Callable[[Pair], None]
QUESTION = "Say hello in one short sentence."
STORY = "Tell me a long story about a lighthouse and its keeper."
HONEST_PIECES = 4
"""Pieces of its answers before the rogue's first lie."""


def two_strangers_meet(pair: Pair) -> None:
    with pair.report.step("L0-07", "Two processes on this machine, one with a model and one without, meet") as step:
        pair.provider.start()
        pair.consumer.start(MESH_TRUSTED=pair.provider.key.hex())
        loads = pair.provider.client
        until(lambda: loads.health().model_loaded, "the provider's model loads", 120)
        expect(not pair.consumer.client.health().model_loaded, "the consumer has no model")
        step.detail = f"{pair.provider.key.hex()[:16]}… sells {pair.model}, {pair.consumer.key.hex()[:16]}… buys"


def one_buys_from_the_other(pair: Pair) -> None:
    with pair.report.step(
        "DEMO-09", "One buys an answer from the other; both have the same trade, the same book"
    ) as step:
        text, reason, bill = told(pair.ask(QUESTION, 32))
        cost = bill["trm_cost"]
        expect(bool(text) and cost > 0, "an answer came, and has its price", text=text, bill=bill)
        book = pair.equal_books()
        ids = [member.client.trades().trades[0].id for member in (pair.provider, pair.consumer)]
        expect(ids[0] == ids[1] == bill["trade_id"], "it is one trade on both sides", ids=ids)
        earned, spent = pair.provider.balance, pair.consumer.balance
        expect(earned == cost == -spent, "what one earned the other spent", earned=earned, spent=spent)
        expect(book.sum_of_accounts == 0, "the book adds up to zero")
        said = text.strip().replace("\n", " ")[:48]
        step.detail = f"“{said}” ({reason}) for {cost} TRM; both books {book.state_hash[:16]}…"
        pair.report.measured("state hash, provider", pair.provider.book.state_hash)
        pair.report.measured("state hash, consumer", book.state_hash)


def a_cheat_is_caught(pair: Pair) -> None:
    """The consumer is told to buy from the rogue only: nothing but its own checks protects it."""
    with pair.report.step("L1-09", "The consumer turns to a provider that cheats") as step:
        pair.consumer.stop()
        pair.rogue.start()
        until(lambda: pair.rogue.client.health().model_loaded, "the rogue's model loads", 120)
        pair.consumer.start(MESH_TRUSTED=pair.rogue.key.hex())
        step.detail = f"{pair.rogue.key.hex()[:16]}… runs tirami.testing.rogue"
    for title in (
        "It claims a token too many: caught, and paid for the honest ones only",
        "It sends every token twice: caught",
        "It puts words into the answer: caught",
    ):
        with pair.report.step("DEMO-09", title) as step:
            before = pair.consumer.balance
            text, reason, bill = told(pair.ask(STORY, 64))
            paid = before - pair.consumer.balance
            claimed = pair.rogue.log_lines("cheating")[-1]
            expect(reason == "provider_failed", "the answer ends as what it is", reason=reason)
            expect("buy our" not in text, "nothing unchecked is shown", text=text)
            expect(paid == bill["trm_cost"], "the bill is what was paid", paid=paid, bill=bill)
            trade = pair.consumer.client.trades().trades[0]
            expect(trade.id == bill["trade_id"], "the honest part is a trade", trade=trade.id)
            expect(trade.tokens_processed <= 3 * HONEST_PIECES, "only the honest part", tokens=trade.tokens_processed)
            step.detail = f"paid {trade.tokens_processed} tokens ({paid} TRM) of {claimed['claimed']} claimed"
            figure = f"{trade.tokens_processed} of {claimed['claimed']}"
            pair.report.measured(f"cheat “{claimed['cheat']}”: tokens paid of those claimed", figure)
    pair.rogue.stop()


def a_consumer_vanishes(pair: Pair) -> None:
    with pair.report.step("L1-03", "The consumer is killed in the middle of an answer: the loss is bounded") as step:
        pair.consumer.stop()
        pair.consumer.start(MESH_TRUSTED=pair.provider.key.hex())
        sales, lost = pair.provider.metric("tirami_sales_total"), pair.provider.metric("tirami_unpaid_trm_total")
        earned = pair.provider.balance
        pieces, last = 0, {}
        try:
            for chunk in pair.ask(STORY, 600):
                last = chunk
                pieces += bool(chunk.get("choices"))
                if pieces == 3 * WINDOW:
                    pair.consumer.kill()
        except LOST:
            pass
        expect(pieces >= 3 * WINDOW, "it had begun", pieces=pieces, last=last)
        until(lambda: pair.provider.metric("tirami_sales_total") > sales, "the provider notices", 40)
        loss = pair.provider.metric("tirami_unpaid_trm_total") - lost
        until(lambda: pair.provider.balance > earned, "what was signed for is booked", 20)
        sale = pair.provider.client.trades().trades[0]
        bound = WINDOW + 2 + sale.tokens_processed // 100  # K, at 1 TRM a token, and what a count may lag (B10)
        expect(loss <= bound, "the loss is at most the window", loss=loss, bound=bound)
        paid = pair.provider.balance - earned
        step.detail = f"{paid} TRM were signed for and paid, {loss:.0f} TRM are lost, at most {bound} could be"
        pair.report.measured("lost to a vanished consumer, TRM", f"{loss:.0f} (bound {bound})")


def it_comes_back(pair: Pair) -> None:
    with pair.report.step("L1-04", "It comes back, learns what it owes, and both books are equal again") as step:
        pair.consumer.start()
        book = pair.equal_books()
        earned, spent = pair.provider.balance, pair.consumer.balance
        expect(book.sum_of_accounts == 0, "the book adds up to zero")
        same = f"{book.records} records, both books {book.state_hash[:16]}…"
        step.detail = f"{same}; earned {earned}, spent {-spent}"


STEPS: tuple[Step, ...] = (
    two_strangers_meet,
    one_buys_from_the_other,
    a_cheat_is_caught,
    a_consumer_vanishes,
    it_comes_back,
)
