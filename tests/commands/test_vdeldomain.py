"""vdeldomain: a domain goes with all that is its own, and nothing else goes."""

import pytest

from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]


def test_a_domain_is_removed_from_everywhere(vpopmail_home: VpopmailHome) -> None:
    vpopmail_home.add("a.example")
    before = {
        name: vpopmail_home.text(name) for name in ("users/assign", "control/virtualdomains", "control/rcpthosts")
    }
    cdb = (vpopmail_home.path / "users/cdb").read_bytes()
    vpopmail_home.add("b.example")
    result = vpopmail_home.run("vdeldomain", "B.Example")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert {name: vpopmail_home.text(name) for name in before} == before
    assert (vpopmail_home.path / "users/cdb").read_bytes() == cdb
    assert sorted(path.name for path in vpopmail_home.domains.iterdir()) == [".dir-control", "a.example"]
    assert (vpopmail_home.domains / ".dir-control").read_text().startswith("1\n")


def test_a_domain_with_aliases_goes_only_by_force(vpopmail_home: VpopmailHome) -> None:
    vpopmail_home.add("a.example")
    for alias in "b.example", "c.example":
        assert vpopmail_home.run("vaddaliasdomain", "a.example", alias).returncode == 0
    result = vpopmail_home.run("vdeldomain", "a.example")
    assert (result.returncode, result.stdout) == (
        0,
        b"Warning: Alias domains exist:\n   b.example\n   c.example\n"
        b"   use -f to force delete of domain and all aliases\n",
    )
    assert "a.example" in vpopmail_home.text("users/assign")
    result = vpopmail_home.run("vdeldomain", "-f", "a.example")
    assert (result.returncode, result.stdout) == (0, b"Warning: Alias domains deleted:\n   b.example\n   c.example\n")
    assert vpopmail_home.text("users/assign") == ".\n"
    assert vpopmail_home.text("control/virtualdomains") == vpopmail_home.text("control/rcpthosts") == ""


def test_of_an_alias_only_the_name_goes(vpopmail_home: VpopmailHome) -> None:
    folder = vpopmail_home.add("a.example")
    text = vpopmail_home.text("users/assign")
    vpopmail_home.run("vaddaliasdomain", "a.example", "b.example")
    result = vpopmail_home.run("vdeldomain", "b.example")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert vpopmail_home.text("users/assign") == text
    assert (folder / "vpasswd").exists()


def test_domains_of_both_lists_of_hosts_are_removed(vpopmail_home: VpopmailHome) -> None:
    (vpopmail_home.path / "control/rcpthosts").write_text("".join(f"d{number:02}.x\n" for number in range(49)))
    vpopmail_home.add("a.example")
    vpopmail_home.run("vaddaliasdomain", "a.example", "b.example")
    assert vpopmail_home.text("control/morercpthosts") == "b.example\n"
    vpopmail_home.run("vdeldomain", "-f", "a.example")
    assert "example" not in vpopmail_home.text("control/rcpthosts")
    assert vpopmail_home.text("control/morercpthosts") == vpopmail_home.text("control/morercpthosts.cdb") == "absent"


@pytest.mark.parametrize("name", ["x.example", "..", "../../x", "a\nb", "", "\xfc"])
def test_what_is_no_domain_is_not_removed(vpopmail_home: VpopmailHome, name: str) -> None:
    vpopmail_home.add("a.example")
    result = vpopmail_home.run("vdeldomain", name)
    assert (result.returncode, result.stdout) == (245, b"Error: Domain does not exist\n")
    assert "a.example" in vpopmail_home.text("users/assign")


def test_no_link_is_followed_and_no_other_folder_removed(vpopmail_home: VpopmailHome) -> None:
    folder = vpopmail_home.add("a.example")
    keep = vpopmail_home.path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    (folder / "link").symlink_to(keep)
    (folder / "postmaster/Maildir/new/link").symlink_to(keep / "file")
    assert vpopmail_home.run("vdeldomain", "a.example").stderr == b""
    assert not folder.exists() and (keep / "file").exists()
    folder = vpopmail_home.add("a.example")
    elsewhere = vpopmail_home.path / "elsewhere"
    folder.rename(elsewhere)
    assign = vpopmail_home.path / "users/assign"
    assign.write_text(assign.read_text().replace(str(folder), str(elsewhere)))
    result = vpopmail_home.run("vdeldomain", "a.example")
    assert result.stderr == f"Warning: Failed to delete directory tree: {elsewhere}\n".encode()
    assert (elsewhere / "vpasswd").exists() and vpopmail_home.text("users/assign") == ".\n"


def test_wrong_usage_prints_the_usage(vpopmail_home: VpopmailHome) -> None:
    for words in ([], ["-Z", "a.example"]):
        result = vpopmail_home.run("vdeldomain", *words)
        assert (result.returncode, result.stdout) == (
            255,
            b"vdeldomain: usage: [options] domain_name\noptions: -v (print version number)\n"
            b"options: -f (force delete of virtual domains)\n",
        )
