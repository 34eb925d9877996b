"""The disclaimer (GEN-22): one text for README, SECURITY, ``tirami legal``, ``/legal`` and the manifest."""

TITLE = "Not an investment"
PATH = "/legal"
DISCLAIMER = (
    "TRM is an accounting unit for compute. The maintainers do not sell, promote or speculate on it, run no exchange "
    "listing, presale or treasury, and share no revenue. The software is MIT-licensed: others may, without our "
    "knowledge, consent or endorsement, bridge, list or trade something derived from it on secondary markets. Whoever "
    "holds or trades TRM as a store of value carries all risk alone."
)
