# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the English of docs, plugin documentation, messages, comments and task names.

Without PATH, the gate checks everything that users and developers read. With PATH, it checks only these files and folders.
Code spans, code blocks, Jinja expressions, placeholders and string literals without a space are not prose.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import token
import tokenize
import typing as t
from pathlib import Path

import tree
import yaml

# British spelling is found by codespell.
# Regular expressions, matched without regard to case at word boundaries, and the words to use instead.
# A space in an expression matches any white space, also a line break. The first match at a place wins.
WORDS = {
    r"speaks? against": "is a problem, prevents",
    r"speaks?|spoken?": "report, support, connect to",
    r"(tells?|telling|told) \w+ apart|(tells?|telling|told) apart": "distinguish",
    r"told|tells?|telling": "report, return, show, name, detect",
    r"mend(s|ed|ing)?": "fix",
    r"apart from": "except for",
    r"apart": "out of sync, separate, different",
    r"whichever": "any, the ... that",
    r"(?<!there\s)are no (?!longer\b)\w+": "are not, are missing",
    r"is no (?!longer\b|way back\b)\w+": "is not a, is missing, is invalid",
    r"(that|there|it) (is|are) none": "the noun again, such as: no key matches",
    r"(is|are) none": "is missing, is empty",
    r"comes? to": "is, equals, gives",
    r"reference appliances?": "appliance simulator",
    r"stand-ins?": "simulator, fake, substitute",
    r"roll-outs?": "rollout",
    r"attest\w*": "manual confirmation, confirm",
    r"receipts?": "manifest",
    r"evidence": "audit trail, audit record",
    r"complain(s|ts?|ed|ing)?": "report, error",
    r"digests? of (the |its |an |their |every |each )?inventor(y|ies)|(inventory|inventories) (\w+ )?digests?": "keys digest",
    r"inventor(y|ies) of (the |its |an |each |every |other |a |both |all )?(HSMs?|nodes?|keys|source|target)": "keys of the node",
    r"(HSM|key|node|source|target)('s|s)? inventor(y|ies)": "keys of the node",
    r"read(s|ing)? (no|the|its|an|every|each) inventor(y|ies)": "read the keys of the node",
}
# A sentence in a Markdown document does not start with one of these.
OPENERS = ("What", "That", "Those", "Where", "Whatever")
MAX_NAME = 60
MAX_WORDS = 25

EVERYTHING = (
    r"(?!CHANGELOG).*\.md",
    r"docs/api/.*\.ya?ml",
    r"(roles|playbooks|molecule|awx)/.*\.(ya?ml|py|j2)",
    r"(plugins|extensions|tests/appliance/src)/.*\.(py|ya?ml|html|j2)",
)
KINDS = {".md", ".py", ".yml", ".yaml", ".html", ".j2"}

DOCUMENTATION = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
# Values under these keys of a YAML file are code.
CODE_KEYS = {
    "when",
    "that",
    "until",
    "changed_when",
    "failed_when",
    "loop",
    "cmd",
    "argv",
    "pattern",
    "example",
    "examples",
}
DESCRIPTIONS = {"description", "details", "notes"}
TASK_FOLDERS = ("roles/", "playbooks/", "molecule/")

JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
MARKUP = re.compile(r"\b(?:[CVOIBMPELU]|RV|HORIZONTALLINE)\((?:[^()]|\([^()]*\))*\)")
CODE_SPAN = re.compile(r"(`+)(?:(?!\1).)+?\1", re.DOTALL)
LINK_TARGET = re.compile(r"(?<=\])\([^)\s]*(?:\s+\"[^\"]*\")?\)|<https?://[^>]*>|https?://\S+")
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)[\"')*_]*\s+(?=[\"'(*_]*[A-Z`\[])")

COMPILED = [
    (re.compile(r"(?<![\w./-])(?:" + expression.replace(" ", r"\s+") + r")(?![\w-])", re.IGNORECASE), instead)
    for expression, instead in WORDS.items()
]


class Finding(t.NamedTuple):
    """One place that a writer must change."""

    file: str
    line: int
    words: str
    instead: str
    strict: bool = False


class Text(t.NamedTuple):
    """Prose with the number of its first line; line breaks are those of the file. A description has whole sentences."""

    line: int
    content: str
    description: bool = False


# Stands for a piece of code; a letter for regular expressions.
PLACEHOLDER = "\N{LATIN LETTER DENTAL CLICK}"


def blank(match: re.Match[str]) -> str:
    """Replace code with a placeholder of one word that keeps the line breaks."""
    return PLACEHOLDER + "\n" * match[0].count("\n")


def words_in(file: str, texts: t.Iterable[Text]) -> t.Iterator[Finding]:
    for text in texts:
        content = CODE_SPAN.sub(blank, JINJA.sub(blank, text.content))
        taken: list[range] = []
        for expression, instead in COMPILED:
            for match in expression.finditer(content):
                if not any(match.start() in span for span in taken):
                    taken.append(range(*match.span()))
                    line = text.line + content.count("\n", 0, match.start())
                    words = " ".join(match[0].split()).replace(PLACEHOLDER, "{}")
                    yield Finding(file, line, words, f"use {instead}")


# Markdown


def markdown_blocks(source: str) -> t.Iterator[tuple[str, Text]]:
    """Paragraphs, headings and table rows, without comments, code blocks, code spans and link targets."""
    source = re.sub(r"<!--.*?-->", lambda match: "\n" * match[0].count("\n"), source, flags=re.DOTALL)
    fence, lines = "", []
    for line in source.split("\n"):
        mark = re.match(r"\s*(?:[-*]\s+)?(```+|~~~+)", line)
        lines.append("" if fence or mark else line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
    start, paragraph = 0, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        kind = "heading" if line.startswith("#") else "table" if line.lstrip().startswith("|") else "paragraph"
        item = re.match(r"\s*(?:[-*+]|\d+\.)\s+|\s*>\s?", line)
        if paragraph and (not line.strip() or kind != "paragraph" or item):
            yield "paragraph", clean_markdown(start, paragraph)
            paragraph = []
        if not line.strip():
            continue
        if kind != "paragraph":
            yield kind, clean_markdown(number, [line])
            continue
        if not paragraph:
            start = number
        paragraph.append(line[item.end() :] if item else line.strip())


def clean_markdown(line: int, lines: list[str]) -> Text:
    content = LINK_TARGET.sub("", CODE_SPAN.sub(blank, "\n".join(lines)))
    return Text(line, re.sub(r"<[^<>\n]+>|&\w+;", "", content))


def sentences(text: Text) -> t.Iterator[Text]:
    begin = 0
    for end in [*(match.end() for match in SENTENCE_END.finditer(text.content)), len(text.content)]:
        yield Text(text.line + text.content.count("\n", 0, begin), text.content[begin:end].strip())
        begin = end


def markdown(file: str, source: str) -> t.Iterator[Finding]:
    for kind, text in markdown_blocks(source):
        yield from words_in(file, [text])
        if kind == "paragraph":
            yield from sentence_findings(file, text)


def sentence_findings(file: str, text: Text, strict: bool = False) -> t.Iterator[Finding]:
    for match in re.finditer(";", text.content):
        line = text.line + text.content.count("\n", 0, match.start())
        yield Finding(file, line, ";", "use two sentences", strict)
    for sentence in sentences(text):
        first = re.match(r"\W*(\w+)", sentence.content)
        if first and first[1] in OPENERS:
            yield Finding(
                file, sentence.line, f"{first[1]} ...", "use the actor as the first word of the sentence", strict
            )
        count = len(re.findall(r"\w\S*", sentence.content))
        if count > MAX_WORDS:
            yield Finding(file, sentence.line, f"{count} words", f"use at most {MAX_WORDS} in a sentence", strict=True)


# YAML


def yaml_scalars(node: yaml.Node | None, key: str = "") -> t.Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from yaml_scalars(value, str(name.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from yaml_scalars(value, key)
    elif isinstance(node, yaml.ScalarNode):
        yield key, node


def yaml_tasks(node: yaml.Node | None) -> t.Iterator[tuple[yaml.ScalarNode, set[str]]]:
    """The name of every task and play, with the keys of the task."""
    if isinstance(node, yaml.MappingNode):
        for dummy, value in node.value:
            yield from yaml_tasks(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            if isinstance(value, yaml.MappingNode):
                entries = {str(name.value): entry for name, entry in value.value}
                if isinstance(entries.get("name"), yaml.ScalarNode):
                    yield entries["name"], set(entries)
            yield from yaml_tasks(value)


def yaml_text(source: str, with_tasks: bool) -> t.Iterator[Text | Finding]:
    """Prose in the values of a YAML document, and names that break a rule; the caller sets the file."""
    for document in yaml.compose_all(source, Loader=yaml.SafeLoader):
        for key, scalar in yaml_scalars(document):
            raw = source[scalar.start_mark.index : scalar.end_mark.index]
            if key not in CODE_KEYS and (" " in raw.strip() or "\n" in raw.strip()):
                yield Text(scalar.start_mark.line + 1, MARKUP.sub(blank, raw), key in DESCRIPTIONS)
            if key == "short_description" and len(scalar.value) > MAX_NAME:
                line = scalar.start_mark.line + 1
                yield Finding("", line, key, f"has {len(scalar.value)} characters: use at most {MAX_NAME}")
        for name, keys in yaml_tasks(document) if with_tasks else ():
            line = name.start_mark.line + 1
            if len(name.value) > MAX_NAME:
                yield Finding("", line, "task name", f"has {len(name.value)} characters: use at most {MAX_NAME}")
            if keys & {"ansible.builtin.assert", "assert"} and not name.value.startswith("Check that "):
                yield Finding("", line, "assert", "use a name that begins with 'Check that'")


def yaml_findings(file: str, source: str, first_line: int = 1, with_tasks: bool | None = None) -> t.Iterator[Finding]:
    with_tasks = file.startswith(TASK_FOLDERS) if with_tasks is None else with_tasks
    for item in yaml_text(source, with_tasks):
        moved = item._replace(line=item.line + first_line - 1)
        if isinstance(moved, Finding):
            yield moved._replace(file=file)
        else:
            yield from words_in(file, [moved])
            if moved.description:
                yield from sentence_findings(file, moved, strict=True)


def hash_comments(source: str) -> t.Iterator[Text]:
    """Consecutive lines of a comment as one text, so that a phrase may span two lines."""
    start, block = 0, list[str]()
    for number, line in enumerate([*source.split("\n"), ""], start=1):
        comment = re.match(r"\s*#(.*)", line)
        if comment:
            start = start if block else number
            block.append(comment[1])
        elif block:
            yield Text(start, "\n".join(block))
            block = []
        trailing = None if comment else re.search(r"\s#\s(.*)", line)
        if trailing:
            yield Text(number, trailing[1])


def yaml_file(file: str, source: str) -> t.Iterator[Finding]:
    yield from words_in(file, hash_comments(source))
    yield from yaml_findings(file, source)


# Python


def python_strings(source: str) -> t.Iterator[list[tuple[int, str]]]:
    """Pieces of adjacent string literals with their lines; a placeholder stands for each expression of an f-string."""
    group: list[tuple[int, str]] = []
    depth, expression = 0, False
    for item in tokenize.generate_tokens(io.StringIO(source).readline):
        name = token.tok_name[item.type]
        if name == "FSTRING_START":
            depth += 1
        elif name == "FSTRING_END":
            depth -= 1
        elif name == "FSTRING_MIDDLE" and depth == 1:
            expression = False
            group.append((item.start[0], item.string))
        elif depth:
            if not expression:
                group.append((item.start[0], PLACEHOLDER))
            expression = True
        elif item.type == tokenize.STRING:
            body = re.match(r"(?s)([A-Za-z]*)(\"\"\"|'''|\"|')(.*)\2\Z", item.string)
            if body:
                literal = re.sub(r"(?<!\{)\{[^{}]*\}", blank, body[3]) if "f" in body[1].lower() else body[3]
                group.append((item.start[0], literal))
        elif item.type not in {tokenize.NL, tokenize.COMMENT} and group:
            yield group
            group = []


def joined(pieces: list[tuple[int, str]]) -> Text:
    """One text of the pieces, in which each piece stands on the line where the file has it."""
    content, line = "", pieces[0][0]
    for number, piece in pieces:
        content += "\n" * (number - line - content.count("\n")) if content else ""
        content += piece
    return Text(line, content.replace("\\n", "  "))


def python_file(file: str, source: str) -> t.Iterator[Finding]:
    documentation: dict[int, str] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = {target.id for target in statement.targets if isinstance(target, ast.Name)}
            if names & DOCUMENTATION and isinstance(statement.value.value, str):
                documentation[statement.value.lineno] = statement.value.value
            fragment = False
        elif isinstance(statement, ast.ClassDef) and "doc_fragments" in file:
            fragment = True
        else:
            continue
        for inner in statement.body if fragment and isinstance(statement, ast.ClassDef) else ():
            if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Constant):
                documentation[inner.value.lineno] = str(inner.value.value)
    for line, content in documentation.items():
        yield from yaml_findings(file, content, line, with_tasks=True)
        yield from words_in(file, (text._replace(line=text.line + line - 1) for text in hash_comments(content)))
    yield from words_in(file, python_comments(source))
    for pieces in python_strings(source):
        text = joined(pieces)
        if text.line not in documentation and " " in text.content.strip():
            yield from words_in(file, [text])


def python_comments(source: str) -> t.Iterator[Text]:
    last, start, block = 0, 0, list[str]()
    for item in tokenize.generate_tokens(io.StringIO(source).readline):
        if item.type != tokenize.COMMENT:
            continue
        if block and item.start[0] != last + 1:
            yield Text(start, "\n".join(block))
            block = []
        start = start if block else item.start[0]
        block.append(item.string.lstrip("#"))
        last = item.start[0]
    if block:
        yield Text(start, "\n".join(block))


# HTML and templates


def template(file: str, source: str) -> t.Iterator[Finding]:
    code = r"<(script|style)\b.*?</\1>|<!--.*?-->|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^<>]+>"
    yield from words_in(file, [Text(1, re.sub(code, blank, source, flags=re.DOTALL))])


READERS: dict[str, t.Callable[[str, str], t.Iterator[Finding]]] = {
    ".md": markdown,
    ".py": python_file,
    ".yml": yaml_file,
    ".yaml": yaml_file,
    ".html": template,
    ".j2": template,
}


def chosen(paths: list[str]) -> list[str]:
    """Files to check, relative to the checkout."""
    known = tree.files()
    if not paths:
        return [name for name in known if any(re.fullmatch(expression, name) for expression in EVERYTHING)]
    found: list[str] = []
    for path in paths:
        name = Path(path).resolve().relative_to(tree.ROOT).as_posix()
        inside = [file for file in known if name in {".", file} or file.startswith(f"{name}/")]
        if not inside:
            raise SystemExit(f"language: {path}: the checkout has no such file")
        found += [file for file in inside if Path(file).suffix in KINDS]
    return sorted(set(found))


def misspelled(files: list[str]) -> bool:
    """Run codespell with the settings of pyproject.toml; it prints each wrong word with the right one."""
    return subprocess.run([sys.executable, "-m", "codespell_lib", *files], cwd=tree.ROOT, check=False).returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("path", nargs="*", help="check only these files and folders")
    parser.add_argument(
        "--strict", action="store_true", help="report long sentences, and sentences of descriptions, too"
    )
    options = parser.parse_args()

    files = chosen(options.path)
    if not files:
        raise SystemExit("language: there is nothing to check")
    found: list[Finding] = []
    for name in files:
        found += READERS[Path(name).suffix](name, (tree.ROOT / name).read_text(encoding="utf-8"))
    shown = sorted({finding for finding in found if options.strict or not finding.strict})
    for finding in shown:
        print(f"{finding.file}:{finding.line}: {finding.words}: {finding.instead}")
    wrong = misspelled(files if options.path else tree.files())
    more = "" if options.strict else f", {sum(finding.strict for finding in set(found))} more with --strict"
    print(f"language: {len(files)} files, {len(shown)} findings{more}")
    return 1 if shown or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
