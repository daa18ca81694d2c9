"""Hands off what git itself would not make: objects, packs and bundles, written byte by byte.

Runs as an agent, in place of the hand-off: `forge.py ATTACK`. It leaves a bundle and a status in
/agent/out, or in $FORGE_OUT. The commit that it starts from is $AGENT_BASE.
"""

import hashlib
import os
import struct
import sys
import zlib

OUT = os.environ.get("FORGE_OUT", "/agent/out")
BASE = os.environ.get("AGENT_BASE", "0" * 40)
KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
HEAD = b"refs/agent-run/out/head"
packed = {}


def entry_header(kind, size):
    first, size = (kind << 4) | (size & 15), size >> 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def put(kind, body):
    name = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(body)) + body).digest()
    packed[name] = entry_header(KINDS[kind], len(body)) + zlib.compress(body, 1)
    return name


def zeros(size):
    """A blob of zeros, which never is in memory as a whole."""
    chunk, left = bytes(1 << 20), size
    digest, packer, out = hashlib.sha1(b"blob %d\0" % size), zlib.compressobj(1), bytearray()
    while left:
        part = chunk[: min(left, len(chunk))]
        digest.update(part)
        out += packer.compress(part)
        left -= len(part)
    packed[digest.digest()] = entry_header(3, size) + bytes(out) + packer.flush()
    return digest.digest()


def tree(*entries):
    return put("tree", b"".join(b"%s %s\0%s" % entry for entry in entries))


WHO = b"A <a@example.org> 1700000000 +0000"


def commit(top, parents=(BASE,), who=WHO, message=b"x\n"):
    lines = [b"tree " + top.hex().encode()]
    lines += [b"parent " + parent.encode() for parent in parents]
    lines += [b"author " + who, b"committer " + who, b"", message]
    return put("commit", b"\n".join(lines))


def tag(target, kind, name=b"v"):
    text = b"object %s\ntype %s\ntag %s\ntagger %s\n\nx\n"
    return put("tag", text % (target.hex().encode(), kind, name, WHO))


def pack(entries=None):
    entries = list(packed.values()) if entries is None else entries
    body = b"PACK" + struct.pack(">II", 2, len(entries)) + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def bundle(tip, refs=None, data=None):
    lines = [b"# v2 git bundle", b"-" + BASE.encode() + b" base"]
    lines += [tip.hex().encode() + b" " + ref for ref in (refs or [HEAD])]
    return b"\n".join(lines) + b"\n\n" + (pack() if data is None else data)


def hand_off(content, head=BASE, more=b""):
    with open(OUT + "/result.bundle", "wb") as file:
        file.write(content)
    with open(OUT + "/status", "wb") as file:
        file.write(b"format=1\nhead=%s\nchanged=1\nbundle=1\n" % head.encode() + more)


def blob():
    return put("blob", b"x")


def one_tree(*entries):
    """A commit with a tree of these entries, each of a mode, a name and perhaps an object."""
    filled = [(e[0], e[1], e[2] if len(e) > 2 else blob()) for e in entries]
    hand_off(bundle(commit(tree(*filled))))


def wide():
    top = tree(*[(b"100644", b"%d" % n, blob()) for n in range(10)])
    for _ in range(9):
        top = tree(*[(b"40000", b"%d" % n, top) for n in range(10)])
    hand_off(bundle(commit(top)))


def deep(levels):
    top = tree((b"100644", b"d", blob()))
    for _ in range(levels):
        top = tree((b"40000", b"d", top))
    hand_off(bundle(commit(top)))


def many_trees():
    """Three hundred listings of a megabyte."""
    file, parent = blob(), BASE
    names = [(b"100644", b"%06d%s" % (n, b"x" * 40), file) for n in range(14000)]
    body = [b"%s %s\0%s" % entry for entry in names]
    for n in range(300):
        body[0] = b"100644 %06d\0" % 0 + hashlib.sha1(b"%d" % n).digest()[:0] + file
        body[1] = b"100644 000001%03d\0" % n + file
        parent = commit(put("tree", b"".join(body)), parents=(parent,)).hex()
    hand_off(bundle(bytes.fromhex(parent)))


def many_objects():
    """More objects than are taken, all of them in one listing after the other."""
    top = []
    for part in range(110):
        names = [(b"100644", b"%05d" % n, put("blob", b"%d %d" % (part, n))) for n in range(10000)]
        top.append((b"40000", b"%03d" % part, tree(*names)))
    hand_off(bundle(commit(tree(*top))))


def delta_bomb(copies=65535):
    """A delta that makes 4 GB of 64 KiB."""
    base = b"x" * 0x10000

    def varint(size):
        out = bytearray()
        while size >= 0x80:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        out.append(size)
        return bytes(out)

    delta = varint(len(base)) + varint(copies * len(base)) + b"\x80" * copies
    first = entry_header(3, len(base)) + zlib.compress(base, 9)
    name = hashlib.sha1(b"blob %d\0" % len(base) + base).digest()
    second = entry_header(7, len(delta)) + name + zlib.compress(delta, 9)
    hand_off(bundle(bytes.fromhex("3" * 40), data=pack([first, second])))


def good():
    return commit(tree((b"100644", b"f", blob())))


def tip(name):
    hand_off(bundle(name))


def changed(change):
    """A bundle that was good before this changed it."""
    hand_off(change(bundle(good())))


def sparse():
    hand_off(bundle(good()))
    os.truncate(OUT + "/result.bundle", 1 << 40)


def linked():
    hand_off(bundle(good()))
    os.link(OUT + "/result.bundle", OUT + "/second")


def flipped(content):
    at = content.index(b"PACK") + 40
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def refs(*names):
    hand_off(bundle(good(), refs=list(names)))


def older():
    parent = os.popen("git rev-parse HEAD~1").read().strip()
    tip(commit(tree((b"100644", b"f", blob())), parents=(parent,)))


def submodule(text):
    one_tree((b"100644", b".gitmodules", put("blob", text)))


ATTACKS = {
    "dot-git": lambda: one_tree((b"100644", b".git")),
    "dot-git-tree": lambda: one_tree((b"40000", b".GIT", tree((b"100644", b"config", blob())))),
    "dot-dot": lambda: one_tree((b"100644", b"..")),
    "dot": lambda: one_tree((b"40000", b".", tree((b"100644", b"f", blob())))),
    "short-name": lambda: one_tree((b"100644", b"git~1")),
    "joiner": lambda: one_tree((b"100644", ".g\u200cit".encode())),
    "slash": lambda: one_tree((b"100644", b"a/b")),
    "no-name": lambda: one_tree((b"100644", b"")),
    "setuid": lambda: one_tree((b"104755", b"f")),
    "device": lambda: one_tree((b"20666", b"f")),
    "unsorted": lambda: one_tree((b"100644", b"b"), (b"100644", b"a")),
    "twice": lambda: one_tree((b"100644", b"a"), (b"100644", b"a")),
    "file-and-directory": lambda: one_tree(
        (b"100644", b"a"), (b"100644", b"a.b"), (b"40000", b"a", tree((b"100644", b"f", blob())))
    ),
    "zero-padded": lambda: one_tree((b"0100644", b"f")),
    "null-object": lambda: one_tree((b"100644", b"f", bytes(20))),
    "missing-object": lambda: one_tree((b"100644", b"f", b"2" * 20)),
    "tree-as-file": lambda: one_tree((b"100644", b"f", tree((b"100644", b"f", blob())))),
    "file-as-tree": lambda: one_tree((b"40000", b"f", blob())),
    "linked-gitmodules": lambda: one_tree((b"120000", b".gitmodules")),
    "option-url": lambda: submodule(b'[submodule "a"]\n path = a\n url = --upload-pack=id\n'),
    "option-path": lambda: submodule(b'[submodule "a"]\n path = -rf\n url = ./a\n'),
    "outside-name": lambda: submodule(b'[submodule "../a"]\n path = a\n url = ./a\n'),
    "command-update": lambda: submodule(b'[submodule "a"]\n path = a\n url = ./a\n update = !id\n'),
    "garbled-tree": lambda: tip(commit(put("tree", b"100644 f\0short"))),
    "no-author": lambda: tip(commit(tree(), who=b"")),
    "nul-author": lambda: tip(commit(tree(), who=b"A\0B <a@example.org> 1 +0000")),
    "wide": wide,
    "deep": lambda: deep(60000),
    "shallow-bomb": lambda: deep(600),
    "many-trees": many_trees,
    "many-objects": many_objects,
    "zeros": lambda: one_tree((b"100644", b"f", zeros((1 << 30) + 1))),
    "delta-bomb": delta_bomb,
    "large-delta": lambda: delta_bomb(30000),
    "cut": lambda: changed(lambda content: content[:-30]),
    "header-only": lambda: changed(lambda content: content[: content.index(b"PACK")]),
    "replaced": lambda: changed(lambda content: b"#!/bin/sh\nid\n" * 1000),
    "flipped": lambda: changed(flipped),
    "with-tail": lambda: changed(lambda content: content + b"tail" * 1000),
    "empty": lambda: changed(lambda content: b""),
    "sparse": sparse,
    "linked": linked,
    "other-pack": lambda: hand_off(bundle(good(), data=pack([]))),
    "other-tip": lambda: (good(), tip(b"\x11" * 20)),
    "other-root": lambda: tip(commit(tree((b"100644", b"f", blob())), parents=())),
    "older": older,
    "tag": lambda: tip(tag(good(), b"commit")),
    "nested-tags": lambda: tip(tag(tag(good(), b"commit"), b"tag")),
    "tree-tip": lambda: tip(tree((b"100644", b"f", blob()))),
    "blob-tip": lambda: tip(blob()),
    "many-refs": lambda: refs(*[b"refs/heads/b%d" % n for n in range(200000)]),
    "twice-head": lambda: refs(HEAD, HEAD),
    "escape-ref": lambda: refs(HEAD + b"\x1b[2J"),
    "command-ref": lambda: refs(HEAD, b"::error::x"),
    "mask-ref": lambda: refs(HEAD, b"##[add-mask]x"),
    "option-ref": lambda: refs(b"--upload-pack=id"),
    "dash-ref": lambda: refs(HEAD, b"-rf"),
    "not-utf8-ref": lambda: refs(HEAD + b"\xff\xfe"),
    "outside-ref": lambda: refs(b"refs/agent-run/out/../../heads/main"),
    "user's-ref": lambda: refs(b"refs/heads/main"),
    "nul-ref": lambda: refs(HEAD + b"\0"),
    "side-99": lambda: refs(HEAD, b"refs/agent-run/out/side/99"),
    "long-ref": lambda: refs(HEAD + b"x" * 100000),
    "hostile-status": lambda: hand_off(bundle(good()), more=b"side.0=\x1b[2J::error::x\n"),
    "unknown-status": lambda: hand_off(bundle(good()), more=b"run=id\n"),
    "long-status": lambda: hand_off(bundle(good()), more=b"submodule=x\n" * 10000),
    "status-head": lambda: hand_off(bundle(good()), head="1" * 40),
}

if __name__ == "__main__":
    if sys.argv[1] not in ATTACKS:
        sys.exit("no such attack")
    ATTACKS[sys.argv[1]]()
