"""A node that cheats, for demonstrations and tests: ``python -m tirami.testing.rogue CHEAT… --data-dir DIR``.

It is an ordinary node with an ordinary engine, configured by the environment like any other, but it lies in the
sessions it sells or buys, and notes so in its log. Several cheats of a side take turns, one a session; a name in the
file ``cheat`` of its data directory comes before them.

What it sells:

============  ====================================================================================
honest        nothing else than is true
price         quotes twice the price it told
model         quotes another model
prompt        quotes more prompt tokens than it was given
template      quotes another prompt than it was given
longer        quotes a longer answer than was asked for
expired       dates its quote two hours back
quote-forged  signs its quote with another key
quote-bent    gives the second signature that the same mathematics allow
count         claims a token more than it sent
ids           sends every token twice, with its text once
text          puts words into the answer that the model never made
hash          hashes something else than it sent
split         tells the same text in the smallest tokens there are
greedy        goes on after the longest answer that was asked for
stall         says nothing more once its quote is accepted
fade          says nothing more after the first pieces
trade-forged  settles with the signature of another key
trade-bent    settles with the second signature that the same mathematics allow
never         keeps the last voucher and settles nothing
late          settles nothing when the session ends, and all of it later
older         settles an older voucher first, and then the last one
audited       notes in its log what an auditor is given: the quote, and the secret all hashes start from
============  ====================================================================================

From the fifth piece of an answer on, where a cheat is about pieces. What it buys, its own gate being open, of whom it
has paid least, and without a word to others of its trades:

==============  ==================================================================================
honest          nothing else than is true
unvouched       sends no voucher
undercount      signs for the newest tokens, and counts none after its first voucher
replay          sends every voucher twice
reorder         sends the second voucher before the first
foreign         sends the last voucher of its session before
forged          signs its vouchers with another key
bent            gives the second signature that the same mathematics allow
ceiling         accepts with a ceiling above the quote
means           accepts as it is, whatever it has left
totals          says that it has spent nothing yet
apart           says to each provider that it has spent nothing elsewhere
hidden          uses number 0, below all those it has shown
accept-forged   signs its acceptance with another key
accept-flipped  turns over a bit of its signature under the acceptance
accept-bent     accepts with the second signature that the same mathematics allow
==============  ==================================================================================
"""
