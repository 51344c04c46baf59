"""Clean the text of e-mails: what the sender wrote stays, quotes, signatures and footers go."""

import re

from programs.data.makers.message import plain

_LONGEST = 20_000  # characters that are looked at
# Lines that begin the end of what the sender wrote.
_END = re.compile(
    r"-- ?|_{20,}|begin forwarded message:|-{5,}\s*forwarded by .*|-----begin pgp signature-----|"
    r"-{2,}\s*(?:original message|original e?-?mail|forwarded message|ursprüngliche nachricht|message d'origine|"
    r"mensaje original|oorspronkelijk bericht|исходное сообщение).*|"
    r"sent from (?:my|mail for|yahoo|outlook)\b.{0,60}|(?:get|download) outlook for .*|"
    r"(?:von meinem|envoyé de mon|enviado desde mi) .{1,40}",
    re.IGNORECASE,
)
_ATTRIBUTION = re.compile(
    r"(?:on|am|le|el|il|em|op|den|w dniu)\b.{4,300}\b(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|"
    r"skrev|napisał\(?a?\)?)\b.{0,120}:|.{1,120}\bwrites:",
    re.IGNORECASE,
)
_HEADERS = re.compile(r"\*?(?:from|von|de|da|van)\s?:\*?\s\S.*", re.IGNORECASE)  # of a message that Outlook quotes
_OTHER_HEADERS = re.compile(
    r"\*?(?:sent|date|to|cc|subject|gesendet|datum|an|betreff|envoyé|à|objet|enviado|para|asunto)\s?:\*?.*",
    re.IGNORECASE,
)
_PGP = re.compile(r"-----begin pgp signed message-----\s*(?:\n[A-Za-z]+: .*)*", re.IGNORECASE)
# "Re:" and its like, in the languages of mail programs.
_PREFIX = re.compile(
    r"\s*(?:re|fwd?|fw|aw|wg|antw|sv|vs|vl|vb|tr|rv|rif|odp|pd|ynt|ilt|doorst|回复|答复|回覆|轉寄|转发|返信|転送)"
    r"\s*(?:\[\d+\]|\(\d+\))?\s*[:：]\s*",
    re.IGNORECASE,
)
_WAS = re.compile(r"\s*[(\[]\s*was\s*:?.*[)\]]?\s*$", re.IGNORECASE)
_TAG = re.compile(r"\s*\[[^\[\]]{1,60}\]\s*")


def clean_body(body: str) -> str:
    """What the sender wrote, on one line.

    Examples:
        >>> clean_body("Thursday is fine.\\n\\nOn Monday Bob wrote:\\n> Which day?\\n-- \\nAda, Room 7")
        'Thursday is fine.'
    """
    text = _PGP.sub("", body[:_LONGEST].replace("\r\n", "\n"))
    lines = text.splitlines()
    kept: list[str] = []
    number = 0
    while number < len(lines) and not _ends(lines, number):
        introduced = _attribution(lines, number)
        if not introduced and not lines[number].lstrip().startswith((">", "|>")):
            kept.append(lines[number])
        number += introduced or 1
    return plain("\n".join(kept))


def own_subject(subject: str, listed: bool = False) -> str | None:
    """A subject as its sender worded it; None for that of a reply or a forwarded e-mail, which somebody else worded.

    Args:
        subject: the subject.
        listed: whether the e-mail came over a list, which puts its name in brackets.

    Examples:
        >>> own_subject("Re: Lunch on Thursday"), own_subject("Re: Room 7 is wet (was: Lunch on Thursday)")
        (None, 'Room 7 is wet')
        >>> own_subject("[rain-users] Lunch on Thursday", listed=True)
        'Lunch on Thursday'
    """
    own, replies = " ".join(subject[:500].split()), False
    while True:
        prefix = _PREFIX.match(own) or (_TAG.match(own) if listed else None)
        if prefix is None:
            break
        replies = replies or _PREFIX.match(own) is not None
        own = own[prefix.end() :]
    without = _WAS.sub("", own)
    return None if replies and without == own else plain(without)


def _attribution(lines: list[str], number: int) -> int:
    """How many lines from here on say who wrote what is quoted next: 1, 2 or none."""
    texts = [line.strip()[:300] for line in lines[number : number + 2]]
    return next((count for count in (1, 2) if _ATTRIBUTION.fullmatch(" ".join(texts[:count]))), 0)


def _ends(lines: list[str], number: int) -> bool:
    """Whether nothing of the sender's follows: a signature begins, a footer, or headers as Outlook quotes them."""
    if _END.fullmatch(lines[number].strip()[:300]):
        return True
    if not _HEADERS.fullmatch(lines[number].strip()[:300]):
        return False
    following = [line.strip()[:300] for line in lines[number + 1 : number + 5]]
    return sum(_OTHER_HEADERS.fullmatch(line) is not None for line in following) >= 2
