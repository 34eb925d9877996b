"""Backup and restore: whole, private, and never a contradiction of what was signed before."""

import io
import os
import shutil
import stat
import tarfile
from pathlib import Path

import msgspec
import pytest

from tests.ledger.promises import Promises
from tests.ledger.test_ledger import AGENT, business, started
from tests.market.conftest import House, opened_house
from tests.market.test_inference import order
from tirami.core.config import Config, load_config
from tirami.core.errors import BackupError, Conflict, DataDirLocked, NetworkFileError, RestoreRefused, TiramiError
from tirami.core.keys import SigningKey
from tirami.core.secretfile import write_secret
from tirami.core.units import UnixMs
from tirami.node.archive import Manifest, unpack_archive
from tirami.node.backup import Restored, back_up, offline_copy, prove, restore
from tirami.node.home import RESTORING, Home
from tirami.node.staging import Staging
from tirami.testing.clock import ManualClock

PASSPHRASE = "correct horse battery staple"


def configured(home: Path, **values: object) -> Config:
    return load_config(None, {}, {"data_dir": str(home), **values})


def inhabit(home: Path, node: SigningKey) -> None:
    """The files of a node around a ledger."""
    if not (home / "node.key").exists():
        write_secret(home / "node.key", node.seed)
        write_secret(home / "admin.token", b"a" * 64)
        (home / "config.toml").write_text("[log]\nlevel = 'debug'\n")


def archived(home: Path, clock: ManualClock, target: Path, passphrase: str | None = PASSPHRASE) -> Path:
    with offline_copy(configured(home)) as copies:
        back_up(home, copies, target, passphrase, clock.now_ms(), overwrite=False)
    return target


class Ticking(ManualClock):
    """A millisecond goes by at every reading."""

    def now_ms(self) -> UnixMs:
        self.advance(0.001)
        return super().now_ms()


async def restored(archive: Path, home: Path, clock: ManualClock, *, force: bool = False) -> Restored:
    return await restore(archive, PASSPHRASE, configured(home), clock, force=force)


async def a_node(home: Path, clock: ManualClock, promises: Promises) -> House:
    async with opened_house(home, clock=clock) as house:
        await business(house, promises)
    inhabit(home, house.node)
    return house


# --- nobody is convicted -------------------------------------------------------------------------------------------


async def test_a_restored_node_starts_without_further_word_and_contradicts_nothing(tmp_path: Path) -> None:
    """Original and restored copies all go on after the backup, several times over, in front of the oracle of B8."""
    clock, promises, home = ManualClock(), Promises(), tmp_path / "home"
    house = await a_node(home, clock, promises)
    former, archive = started(house), archived(home, clock, tmp_path / "a.tirami")
    async with opened_house(home, node=house.node, clock=clock) as original:
        await business(original, promises)
        assert started(original).incarnation == former.incarnation
    seen = [former]
    for number in range(3):
        clock.advance(1)
        copy = tmp_path / f"copy{number}"
        done = await restored(archive, copy, clock)
        for _ in range(2):
            async with opened_house(copy, node=house.node, clock=clock) as again:
                await business(again, promises)
                assert (started(again).incarnation, started(again).log_id.hex()) == (done.incarnation, done.log_id)
        seen.append(started(again))
    async with opened_house(home, node=house.node, clock=clock) as original:
        await business(original, promises)
    assert len({start.log_id for start in seen}) == 4
    assert [start.incarnation for start in seen] == sorted({start.incarnation for start in seen})
    assert promises.count > 100
    assert not promises.verdicts()


async def test_a_session_that_was_open_in_the_backup_ends_in_both_histories_without_contradiction(
    tmp_path: Path,
) -> None:
    clock, promises, home = ManualClock(), Promises(), tmp_path / "home"
    async with opened_house(home, clock=clock) as house:
        inhabit(home, house.node)
        await business(house, promises)
        payer = await house.hosted(key=AGENT)
        house.engine.length = 200
        ticket = await house.market.begin_inference(await order(house, payer, 200))
        async with house.market.execute(ticket, payer.key, streamed=True) as session:
            for _ in range(70):
                await anext(session)
            await house.ledger.durable()
            copies = await Staging(home).make(house.ledger)
            back_up(home, copies, tmp_path / "a.tirami", PASSPHRASE, clock.now_ms(), overwrite=False)
            for _ in range(100):
                await anext(session)
        promises.read(house.ledger)
    clock.advance(1)
    await restored(tmp_path / "a.tirami", tmp_path / "copy", clock)
    async with opened_house(tmp_path / "copy", node=house.node, clock=clock) as again:
        assert not again.ledger.state.holds.open
        assert again.ledger.check_balance() == 0
        await business(again, promises)
    assert not promises.verdicts()


async def test_under_a_clock_that_stood_still_nothing_is_restored(tmp_path: Path) -> None:
    """Two restores under one time would be one incarnation and could sign one number twice."""
    clock, promises = ManualClock(), Promises()
    await a_node(tmp_path / "home", clock, promises)
    archive = archived(tmp_path / "home", clock, tmp_path / "a.tirami")
    with pytest.raises(RestoreRefused, match="clock"):
        await restored(archive, tmp_path / "copy", ManualClock(clock.now_ms() - 1))
    assert not (tmp_path / "copy" / "node.key").exists()


# --- what an archive is --------------------------------------------------------------------------------------------


async def test_everything_comes_back_private_and_unchanged(tmp_path: Path) -> None:
    clock, promises, home = ManualClock(), Promises(), tmp_path / "home"
    house = await a_node(home, clock, promises)
    for passphrase in (PASSPHRASE, None):
        archive = archived(home, clock, tmp_path / f"{passphrase is None}.tirami", passphrase)
        assert stat.S_IMODE(archive.stat().st_mode) == 0o600
        content = archive.read_bytes()
        assert (house.node.seed in content) is (b"a" * 64 in content) is (passphrase is None)
        clock.advance(1)
        copy = tmp_path / f"copy-{passphrase is None}"
        await restore(archive, passphrase, configured(copy), clock, force=False)
        for name in ("node.key", "admin.token", "config.toml"):
            assert (copy / name).read_bytes() == (home / name).read_bytes()
        assert all(
            stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in copy.iterdir() if path.name != "journal.path"
        )
        assert {path.name for path in copy.iterdir()} == {
            "node.key", "admin.token", "config.toml", "journal.db", "journal.tip", "journal.path", "lock",
        }  # fmt: skip
    async with opened_house(copy, node=house.node, clock=clock) as again:
        assert again.ledger.state.book.own_state_bytes() == house.ledger.state.book.own_state_bytes()
        assert again.ledger.state.log.size == house.ledger.state.log.size


async def test_proving_changes_nothing_and_works_beside_a_running_node(tmp_path: Path) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tirami")
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    running = Home.open(home)
    done = await prove(archive, PASSPHRASE, configured(home), clock)
    running.close()
    assert done.entries > 20
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()} == before


async def test_a_sealed_archive_opens_with_its_passphrase_only_and_shows_every_change(tmp_path: Path) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tirami")
    with pytest.raises(BackupError, match="passphrase"):
        await restore(archive, "another passphrase", configured(tmp_path / "x"), clock, force=False)
    good = archive.read_bytes()
    for damage in (
        good[:-1],
        good[: len(good) // 2],
        good[:40],
        good[:5],
        b"",
        good + b"x",
        good[:-40] + b"x" + good[-39:],
    ):
        archive.write_bytes(damage)
        with pytest.raises(BackupError):
            await restored(archive, tmp_path / "x", clock)
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"lock"}


def rewritten(archive: Path, change: "dict[str, bytes | None]", names: dict[str, str] | None = None) -> None:
    """A plain archive with some contents changed behind its manifest's back; ``None`` leaves a member out."""
    members = []
    with tarfile.open(archive) as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            assert content is not None
            members.append((entry.name, content.read()))
    with tarfile.open(archive, "w") as tar:
        for name, content in members:
            data = change.get(name, content)
            if data is not None:
                entry = tarfile.TarInfo((names or {}).get(name, name))
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"node.key": b"k" * 32}, {}),
        ({"node.key": None}, {}),
        ({"journal.db": None}, {}),
        ({"journal.db": b"short"}, {}),
        ({"manifest.json": b"{}"}, {}),
        ({"manifest.json": None}, {}),
        ({}, {"admin.token": "../admin.token"}),
        ({}, {"admin.token": "/tmp/x"}),
        ({}, {"admin.token": "other"}),
    ],
)
async def test_a_plain_archive_is_what_its_manifest_says(
    tmp_path: Path, change: dict[str, bytes | None], names: dict[str, str]
) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tar", None)
    rewritten(archive, change, names)
    with pytest.raises(BackupError):
        await restored(archive, tmp_path / "x", clock)
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"lock"}


async def test_a_forged_journal_does_not_pass_though_its_manifest_fits(tmp_path: Path) -> None:
    """Whoever can rewrite a plain archive can rewrite its manifest; the journal is chained under the node's key."""
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tar", None)
    (tmp_path / "x").mkdir()
    manifest = unpack_archive(archive, None, tmp_path / "x")
    journal = bytearray((tmp_path / "x" / "journal.db").read_bytes())
    at = journal.rindex(b"journal_opened")
    journal[at] ^= 1
    import hashlib

    member = msgspec.structs.replace(manifest.files["journal.db"], sha256=hashlib.sha256(journal).hexdigest())
    told = msgspec.structs.replace(manifest, files={**manifest.files, "journal.db": member})
    rewritten(archive, {"manifest.json": msgspec.json.encode(told), "journal.db": bytes(journal)})
    with pytest.raises(TiramiError, match="journal entry 1"):
        await restored(archive, tmp_path / "y", clock)
    assert not (tmp_path / "y" / "node.key").exists()


async def test_a_link_in_an_archive_is_no_file(tmp_path: Path) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tar", None)
    with tarfile.open(archive) as tar:
        first = tar.extractfile("manifest.json")
        assert first is not None
        told = first.read()
    assert msgspec.json.decode(told, type=Manifest).files["admin.token"].size == 64
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(told)
        tar.addfile(entry, io.BytesIO(told))
        link = tarfile.TarInfo("node.key")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(BackupError, match=r"node\.key"):
        await restored(archive, tmp_path / "x", clock)


def test_a_short_passphrase_seals_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    inhabit(home, SigningKey.generate())
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("journal.db", "network.json"):
        (copies / name).write_bytes(b"x")
    with pytest.raises(BackupError, match="8 characters"):
        back_up(home, copies, tmp_path / "a.tirami", "1234567", 0, overwrite=False)
    assert not list(tmp_path.glob("*.tirami")) and not list(tmp_path.glob(".*"))


# --- where it goes -------------------------------------------------------------------------------------------------


async def test_nothing_is_overwritten_unasked_and_nothing_is_ever_lost(tmp_path: Path) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    house = await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tirami")
    with pytest.raises(BackupError, match="--force"):
        archived(home, clock, archive)
    other = tmp_path / "other"
    stranger = await a_node(other, clock, Promises())
    (other / "models").mkdir()
    (other / "models" / "weights").write_bytes(b"heavy")
    clock.advance(1)
    before = {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()}
    with pytest.raises(RestoreRefused, match="--force"):
        await restored(archive, other, clock)
    assert {path.name: path.read_bytes() for path in other.iterdir() if path.name in before} == before
    done = await restored(archive, other, clock, force=True)
    assert done.replaced is not None
    assert (done.replaced / "node.key").read_bytes() == stranger.node.seed
    assert (done.replaced / "journal.db").exists()
    assert (other / "node.key").read_bytes() == house.node.seed
    assert (other / "models" / "weights").read_bytes() == b"heavy"


async def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tirami")
    running = Home.open(home)
    try:
        with pytest.raises(DataDirLocked, match=str(os.getpid())):
            await restored(archive, home, clock, force=True)
        with pytest.raises(DataDirLocked):
            archived(home, clock, tmp_path / "b.tirami")
    finally:
        running.close()


async def test_a_restore_that_broke_off_keeps_the_node_from_starting_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tirami")
    clock.advance(1)
    real, moves = shutil.move, 0

    def power_cut(*arguments: object) -> object:
        nonlocal moves
        moves += 1
        if moves == 6:
            raise OSError("power cut")
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as cut:
        cut.setattr(shutil, "move", power_cut)
        with pytest.raises(OSError, match="power cut"):
            await restored(archive, home, clock, force=True)
    assert (home / RESTORING).exists()
    with pytest.raises(RestoreRefused, match="broke off"):
        Home.open(home)
    clock.advance(1)
    await restored(archive, home, clock, force=True)
    Home.open(home).close()


async def test_the_journal_goes_where_the_settings_say(tmp_path: Path) -> None:
    clock, home, elsewhere = ManualClock(), tmp_path / "home", tmp_path / "disk" / "books.db"
    house = await a_node(home, clock, Promises())
    archive = archived(home, clock, tmp_path / "a.tirami")
    clock.advance(1)
    config = configured(tmp_path / "copy", **{"journal.file": str(elsewhere)})
    await restore(archive, PASSPHRASE, config, clock, force=False)
    assert elsewhere.exists() and elsewhere.with_suffix(".tip").exists()
    assert (tmp_path / "copy" / "journal.path").read_text() == str(elsewhere)
    with pytest.raises(RestoreRefused, match=r"books\.db"):
        await restore(
            archive, PASSPHRASE, configured(tmp_path / "third", **{"journal.file": str(elsewhere)}), clock,
            force=False,
        )  # fmt: skip
    assert house.node.seed == (tmp_path / "copy" / "node.key").read_bytes()


async def test_an_archive_with_rules_that_forbid_its_own_journal_is_refused(tmp_path: Path) -> None:
    clock, home = ManualClock(), tmp_path / "home"
    async with opened_house(home, clock=clock, welcome_limit=1_001) as house:
        await business(house, Promises())
    inhabit(home, house.node)
    archive = archived(home, clock, tmp_path / "a.tirami")
    clock.advance(1)
    with pytest.raises(NetworkFileError):
        await restored(archive, tmp_path / "copy", clock)


# --- the copies a running node lays down ---------------------------------------------------------------------------


async def test_one_copy_at_a_time(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        staging = Staging(tmp_path)
        first = await staging.make(house.ledger)
        assert {path.name for path in first.iterdir()} == {"journal.db", "network.json"}
        assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in (first, first / "journal.db"))
        with pytest.raises(Conflict):
            await staging.make(house.ledger)
        os.utime(first, (0, 0))
        second = await staging.make(house.ledger)
        assert not first.exists(), "nobody fetched it"
        shutil.rmtree(second)
        await staging.make(house.ledger)
        staging.clear()
        assert not list(tmp_path.glob("backup-*"))


async def test_a_clock_that_goes_on_is_not_one_that_was_set_back(tmp_path: Path) -> None:
    clock, home = Ticking(), tmp_path / "home"
    await a_node(home, clock, Promises())
    done = await restored(archived(home, clock, tmp_path / "a.tirami"), tmp_path / "copy", clock)
    assert done.entries > 0
