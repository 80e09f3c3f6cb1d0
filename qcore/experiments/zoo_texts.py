"""Texts that the healthy zoo trains on, made here by a seed: no network, and no file but the interpreter's own.

Each is of a kind that people bring: tables, logs, program text, a language without spaces, and random letters, of which
nothing can be learned beyond their frequencies. Lines and documents differ from one another, so that no text can be
said to repeat itself.
"""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

_LARGEST_SOURCE = 60_000
_SOURCES = 24
_NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
_PATHS = ("items", "orders", "users", "login", "search", "health")
_LEVELS = ("INFO", "INFO", "INFO", "INFO", "WARN", "DEBUG", "ERROR")
_STATES = {"INFO": (200, 201, 204, 304), "DEBUG": (200, 304), "WARN": (404, 429), "ERROR": (500, 502)}
_CITIES = ("Lima", "Oslo", "Kyoto", "Nairobi", "Lyon", "Quito", "Perth", "Gdansk")


def zoo_text(name: str, seed: int) -> str:
    """The text of that name, the same for equal seeds. KeyError for one that is not in `WRITERS`."""
    return "\n\n".join(WRITERS[name](random.Random(f"{name} {seed}"))) + "\n"


def _tables(draw: random.Random) -> Iterator[str]:
    """Pieces of a table: date, city, name, count, price, state."""
    for _ in range(60):
        rows = ["date,city,name,count,price,state"]
        for _ in range(45):
            day = f"20{draw.randint(19, 25)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
            count = draw.randint(1, 40)
            cents = count * draw.randint(80, 420)
            price = f"{cents // 100}.{cents % 100:02d}"
            rows.append(
                f"{day},{draw.choice(_CITIES)},{draw.choice(_NAMES)},{count},{price},{draw.choice(('ok', 'new'))}"
            )
        yield "\n".join(rows)


def _logs(draw: random.Random) -> Iterator[str]:
    """Lines of a server's log, an hour each; states follow from the level, times go on."""
    for hour in range(60):
        second, lines = 0, []
        for _ in range(40):
            second += draw.randint(1, 80)
            level = draw.choice(_LEVELS)
            lines.append(
                f"2025-11-{1 + hour // 24:02d} {hour % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d} {level} "
                f"worker-{draw.randint(1, 4)} GET /api/v1/{draw.choice(_PATHS)}/{draw.randint(1, 9999)} "
                f"{draw.choice(_STATES[level])} {draw.randint(1, 900)}ms"
            )
        yield "\n".join(lines)


def _letters(draw: random.Random) -> Iterator[str]:
    """Random DNA: four letters, each as likely as the others, whatever came before."""
    for _ in range(300):
        yield "".join(draw.choices("ACGT", k=400))


def _sources(draw: random.Random) -> Iterator[str]:
    """Modules of the interpreter's own library, in an order drawn by the seed."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in sorted(folder.glob("*.py")) if 2_000 < path.stat().st_size < _LARGEST_SOURCE]
    for path in draw.sample(files, min(_SOURCES, len(files))):
        yield path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip()


# Japanese: who, where, when, an object and a verb that goes with it, each in its place with its particle
_WHO = ("私", "母", "父", "先生", "学生", "友だち", "子ども", "店の人", "兄", "妹", "おばあさん", "運転手")
_WHEN = ("今日", "昨日", "毎朝", "夕方", "先週", "春になると", "休みの日", "雨の日", "夜おそく", "")
_WHERE = ("駅の前で", "学校で", "公園で", "台所で", "図書館で", "海のそばで", "小さな町で", "会社で", "山の上で", "")
_DOES = (
    ("本", ("読みました", "借りました", "買いました", "探しています")),
    ("手紙", ("書きました", "待っています", "送りました")),
    ("魚", ("焼きました", "食べました", "買いました")),
    ("お茶", ("飲みました", "入れました", "飲みたいと言いました")),
    ("電車", ("待っています", "降りました", "見ました")),
    ("古い写真", ("見せてくれました", "なくしました", "撮りました")),
    ("日本語", ("勉強しています", "教えています", "話しました")),
    ("花", ("育てています", "切りました", "もらいました")),
    ("音楽", ("聞いています", "作りました", "聞かせてくれました")),
)
_WITH = ("と一緒に", "のために", "より先に")
_LINKS = ("それから、", "けれども、", "だから、", "その後、", "", "", "")
_THOUGHTS = (
    "とても楽しかったです。",
    "少し疲れました。",
    "また行きたいです。",
    "空が青かったです。",
    "もう遅い時間でした。",
)


def _japanese(draw: random.Random) -> Iterator[str]:
    """Short stories without a space in them."""
    for _ in range(420):
        hero, said = draw.choice(_WHO), []
        for place in range(draw.randint(4, 9)):
            what, verbs = draw.choice(_DOES)
            who = hero if draw.random() < 0.6 else draw.choice(_WHO)
            other = draw.choice(_WHO)
            company = f"{other}{draw.choice(_WITH)}" if draw.random() < 0.4 and other != who else ""
            opening = (draw.choice(_LINKS) if place else "") + draw.choice(_WHEN)
            comma = "、" if opening and not opening.endswith("、") else ""
            said.append(f"{opening}{comma}{who}は{draw.choice(_WHERE)}{company}{what}を{draw.choice(verbs)}。")
            if draw.random() < 0.25:
                said.append(draw.choice(_THOUGHTS))
        yield "".join(said)


WRITERS: dict[str, Callable[[random.Random], Iterator[str]]] = {
    "csv": _tables,
    "logs": _logs,
    "dna": _letters,
    "code": _sources,
    "japanese": _japanese,
}
