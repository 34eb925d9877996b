"""``tirami network``."""

from tests.cli.running import Shell
from tirami.proto import NetworkFile

OTHER = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_a_network_file_names_this_node_and_others(nowhere: Shell) -> None:
    file = nowhere.home / "own.json"
    made = nowhere.run("network", "init", str(file), "--id", "own-net", "--issuer", OTHER, "--json")
    assert made.code == 0, made.err
    own = nowhere.run("wallet", "identity", "--json").json["node_id"]
    network = NetworkFile.load(file)
    assert (network.id, network.hash.hex()) == ("own-net", made.json["hash"])
    assert [entry.key for entry in network.issuers] == list(network.witnesses) == [own, OTHER]
    again = nowhere.run("network", "init", str(file))
    assert again.code == 1 and "is there already" in again.err
    assert NetworkFile.load(file) == network
    other = nowhere.run("network", "init", str(nowhere.home / "other.json"))
    assert "Issuers:" in other.out and "--network" in other.out


def test_what_is_no_name_or_no_key_writes_nothing(nowhere: Shell) -> None:
    for words in (("--id", "No Name"), ("--issuer", "ab")):
        file = nowhere.home / "own.json"
        assert nowhere.run("network", "init", str(file), *words).code == 1
        assert not file.exists()
