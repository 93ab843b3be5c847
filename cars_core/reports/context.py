"""What a sentence says of the findings it names: denied, left open or stated, on which side, how much.

One walk over the phrases of a sentence, from the left. A denial ("no") or a doubt ("may represent") holds to the end
of its clause; a comma ends it unless what follows goes on with the list. "Is not seen" and "cannot be excluded" reach
back to the beginning of their clause. Parts of the body and what is said of them ("heart ... normal") are put together
on the way. "A versus B" and "A or B" leave both open: they say that one is there and not which. The coders of the
Open-i reports take both as stated (37 of 40 findings among the reports with even numbers). The idea of triggers with
scopes is NegEx's (Chapman et al., J Biomed Inform 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cars_core.reports.earlier import of_an_earlier_film
from cars_core.reports.forms import answered, find_fields
from cars_core.reports.lexicon import Entry, Lexicon
from cars_core.reports.matching import Item
from cars_core.reports.sides import where_and_how_much

#: How many words "prior" looks ahead for its finding, and "history of".
_PRIOR_REACH, _HISTORY_REACH = 5, 12
#: How many words may stand between "versus" and what it joins.
_JOINED_REACH = 7
#: How many phrases a "not seen" reaches back at most; how many words may lie between a part of the body and what is
#: said of it; how many parts, and sayings, may wait for each other. No sentence needs more, and time stays linear.
_BACK_REACH, _PAIR_REACH, _MOST_WAITING = 40, 30, 8
#: What is still to be seen on a film after it happened, so that "prior" and "status post" do not put it in the past.
_LASTING = frozenset({"fracture", "rib_fracture", "clavicle_fracture", "support_devices", "calcification", "other"})
_MARKS = frozenset(",;:()[]")
_HISTORY = frozenset({"history", "h/o", "hx", "known"})


@dataclass(frozen=True, slots=True)
class Mention:
    """One thing said of one finding.

    state: present | absent | uncertain. normal: it is said by calling a part of the body normal, and the finding is
    not named. side: left | right | both | None. severity: mild | moderate | severe | None. first, last: its words,
    `last` past the end. item: the place of its phrase among the sentence's, for a pair that of the later one.
    """

    finding: str
    state: str
    first: int
    last: int
    item: int
    normal: bool = False
    side: str | None = None
    severity: str | None = None


@dataclass(slots=True)
class _Segment:
    """What stands between two commas or stops. begins: its first phrase other than "and" and "or"."""

    begin: int
    end: int
    hard: bool = False  # a stop or a "but" before it
    joins: str = ""     # "and" or "or" where it begins with one
    begins: Entry | None = None
    has_or: bool = False
    has_and: bool = False
    has_verb: bool = False
    has_finding: bool = False
    listed: bool = False  # goes on with the list of the segment before it
    choice: bool = False  # and the list is one of alternatives: "or" stands in it, or comes


def read_sentence(items: list[Item], words: list[str], lexicon: Lexicon) -> list[Mention]:
    """The mentions of a sentence, in its order. `items` and `words` are those of `matching`."""
    if not any(entry.findings or entry.quality for entry, _, _ in items):
        return []
    items, fields = find_fields(items, words)
    mentions = answered(_Reader(items, words, lexicon).read(), fields)
    return where_and_how_much(mentions, items, words)


def _segments(items: list[Item]) -> list[_Segment]:
    """Cut at commas and stops, and tell from the right which segments go on with a list."""
    out = [_Segment(0, len(items))]
    for i, (entry, _, _) in enumerate(items):
        cues = entry.cues
        if "comma" in cues or "stop" in cues or "but" in cues:
            out[-1].end = i
            out.append(_Segment(i + 1, len(items), hard="comma" not in cues))
            continue
        now = out[-1]
        if not cues & {"and", "or", "slash"}:
            now.begins = now.begins or entry
        elif now.begins is None and i == now.begin:
            now.joins = "and" if "and" in cues else "or"
        now.has_or = now.has_or or ("or" in cues and not now.has_verb)
        now.has_and = now.has_and or ("and" in cues and not now.has_verb)
        now.has_verb = now.has_verb or "verb" in cues
        now.has_finding = now.has_finding or bool(entry.findings)
    or_ahead = False
    for k in range(len(out) - 1, -1, -1):
        now = out[k]
        begins = now.begins.cues if now.begins else frozenset()
        fresh = bool(begins & {"positive", "article", "no", "may", "past", "if", "verb"})
        if now.joins == "or":
            now.listed = not begins & {"no", "may"}
        elif now.joins == "and":
            now.listed = not fresh and not (now.begins and now.begins.subject and now.has_verb)
        elif now.has_or or or_ahead:
            now.listed = not fresh and (now.has_finding or not now.has_verb)
        else:
            sided = bool(now.begins and (now.begins.side or now.begins.degree))
            now.listed = now.has_finding and not now.has_verb and not fresh and not sided
        now.choice = now.listed and (now.has_or or now.joins == "or" or or_ahead)
        or_ahead = not now.hard and (now.has_or or now.joins == "or" or (or_ahead and now.listed))
    return out


class _Reader:
    """Reads one sentence."""

    def __init__(self, items: list[Item], words: list[str], lexicon: Lexicon) -> None:
        self.items, self.words, self.lexicon = items, words, lexicon
        self.segments = _segments(items)
        self.at = 0  # which segment
        self.mentions: list[Mention] = []
        self.denied = self.doubted = self.supposed = self.unsettled = False
        self.past_until = -1
        self.told = False              # the past is a history that somebody told
        self.past: list[Mention] = []  # put in the past, in this clause
        self.same = False              # "no change in A or B": both are there
        self.lasts = False             # the clause says that something persists
        self.group: list[Item] = []    # parts of the body that wait for what is said of them
        self.spent = False             # something has been said of them
        self.of_item: dict[int, list[int]] = {}  # phrase -> its mentions
        self.waiting: list[tuple[Item, bool, bool]] = []  # what is said of a part yet to be named; denied; doubted

    def read(self) -> list[Mention]:
        """Walk the phrases."""
        joints: list[int] = []
        for i, item in enumerate(self.items):
            entry = item[0]
            cues = entry.cues
            if cues:
                if cues & {"comma", "stop", "but"}:
                    self._next_segment(cues)
                    continue
                self._cue(i, entry, item)
                self.same = self.same or "pseudo" in cues
                if "versus" in cues or ("or" in cues and not self.same):
                    joints.append(i)
            if entry.findings:
                self._finding(i, item)
            if entry.subject:
                self._subject(i, item)
            if entry.quality:
                self._quality(i, item)
        self._end_clause()
        if joints:
            for n, mention in enumerate(self.mentions):
                self.of_item.setdefault(mention.item, []).append(n)
            for joint in joints:
                self._leave_open(joint)
        return self.mentions

    # --- clauses ------------------------------------------------------------------------------------------------------

    def _next_segment(self, cues: frozenset[str]) -> None:
        self.at += 1
        now = self.segments[self.at]
        self.past_until = -1
        if "comma" in cues:
            if not now.listed:
                self.denied = False
            if not now.choice:
                self.doubted = False
            return
        self.denied = self.doubted = self.supposed = self.unsettled = self.same = False
        self._end_clause()
        if "stop" in cues:
            # "Heart: normal" goes on; "heart; lungs" does not.
            if self.spent or self.waiting:
                self.group, self.spent = [], False
            self.waiting = []

    def _end_clause(self) -> None:
        if self.lasts:
            self.mentions += self.past
        self.past, self.lasts = [], False

    def _cue(self, i: int, entry: Entry, item: Item) -> None:
        cues = entry.cues
        if "taken" in cues and not self._device_follows(i):
            self._reach_back(i, "absent", only="support_devices")  # "chest tube removed"
            return
        if "no" in cues:
            self.denied, self.doubted = True, False
            if "gone" not in cues:
                return
        if "gone" in cues and not of_an_earlier_film(self.words, item[1], item[2]):
            self._reach_back(i, "absent")
        if "open" in cues and ("may" not in cues or self._closes(i)):
            self._reach_back(i, "uncertain")
        elif "may" in cues:
            if i and self.items[i - 1][0].cues & {"with", "and"}:
                self.denied = False
            self.doubted = True
        elif "with" in cues:
            if not self.told:
                self.past_until = -1
            if self.spent:  # "normal heart with prominent vessels"
                self.group = []
            self.spent = bool(self.group)
            following = self.items[i + 1][0] if i + 1 < len(self.items) else entry
            if following.side or following.degree or "positive" in following.cues:
                self.denied = False  # "no pneumothorax with small effusions"
        if "setting" in cues:
            self._reach_back(i, "uncertain")
        if cues & {"setting", "differential"}:
            self.unsettled = True
        if "past" in cues:
            self.told = self.words[item[1]] in _HISTORY
            self.past_until = item[2] + (_HISTORY_REACH if self.told else _PRIOR_REACH)
        elif "study" in cues or "verb" in cues:
            self.past_until = -1
            if "verb" in cues:
                self.waiting = []
        if "if" in cues:
            self.supposed = True
        if "persists" in cues:
            self.lasts = True
        if "and" in cues and (self.denied or self.doubted) and i + 1 < len(self.items):
            following = self.items[i + 1][0]
            if following.cues & {"positive", "article"} or (following.subject and self._verb_after(i + 1)):
                self.denied = self.doubted = False

    def _closes(self, i: int) -> bool:
        """Whether phrase i is the last of its segment's words and a finding stands before: "pneumonia?"."""
        after = self.items[i][2]
        if after < len(self.words) and self.words[after] not in _MARKS:
            return False
        begin = max(self.segments[self.at].begin, i - _BACK_REACH)
        return any(self.items[k][0].findings for k in range(begin, i))

    def _verb_after(self, i: int) -> bool:
        end = min(self.segments[self.at].end, i + 8)
        return any("verb" in self.items[k][0].cues for k in range(i, end))

    def _device_follows(self, i: int) -> bool:
        end = min(self.segments[self.at].end, i + 8)
        return any("support_devices" in self.items[k][0].findings for k in range(i + 1, end))

    def _reach_back(self, i: int, state: str, only: str | None = None) -> None:
        """Give what stands before phrase i in its clause another state; `only` the finding of that name."""
        if state == "absent" and self.past:  # "prior pneumonia has resolved"
            self.mentions += [replace(mention, state=state) for mention in self.past]
            self.past = []
        at = self.at
        begin = self.segments[at].begin
        while at > 0 and not self.segments[at].hard and begin > i - _BACK_REACH:
            here = self.segments[at]
            named = any(m.item >= here.begin for m in reversed(self.mentions[-8:]))
            before = self.segments[at - 1]
            bare = state == "absent" and here.has_and and before.begins is not None and bool(before.begins.findings)
            if not (here.joins or not named or bare) or before.has_verb:
                break
            at -= 1
            begin = self.segments[at].begin
        begin = max(begin, i - _BACK_REACH)
        verb = False
        for k in range(begin, i):
            cues = self.items[k][0].cues
            verb = verb or "verb" in cues
            if verb and "and" in cues and any(m.item > k for m in self.mentions[-8:]):
                begin, verb = k + 1, False
        for n in range(len(self.mentions) - 1, -1, -1):
            mention = self.mentions[n]
            if mention.item < begin:
                break
            if only is not None and mention.finding != only:
                continue
            if mention.state == "present" or (state == "absent" and mention.state == "uncertain"):
                self.mentions[n] = replace(mention, state=state)

    # --- findings -----------------------------------------------------------------------------------------------------

    def _state(self) -> str:
        return "absent" if self.denied else "uncertain" if self.doubted or self.unsettled else "present"

    def _finding(self, i: int, item: Item) -> None:
        entry, first, last = item
        state = self._state()
        if "unremarkable" in entry.findings and entry.denies:
            state = "present"  # its words are themselves the denial
        parts = self._parts_beside(i)
        for name in entry.findings:
            if any((name, part) in self.lexicon.misplaced for part in parts):
                continue
            mention = Mention(name, state, first, last, i)
            if name.startswith("~"):  # left open by its own words
                mention = replace(mention, finding=name[1:], state="absent" if state == "absent" else "uncertain")
            if self.supposed:
                continue
            if first < self.past_until and state != "absent" and name not in _LASTING:
                if not self.told:
                    self.past.append(mention)
                continue
            self.mentions.append(mention)
            for part in parts:
                narrow = self.lexicon.narrower.get((name, part))
                if narrow and narrow not in entry.findings:
                    self.mentions.append(replace(mention, finding=narrow))
        if entry.denies:
            self.denied = True
        if self.group:
            self.spent = True

    def _parts_beside(self, i: int) -> list[str]:
        """The parts of the body that phrase i is told of: those near it, up to an "and" or another finding."""
        segment = self.segments[self.at]
        out: list[str] = []
        for step, end in ((-1, max(segment.begin, i - 5) - 1), (1, min(segment.end, i + 6))):
            for k in range(i + step, end, step):
                entry = self.items[k][0]
                if entry.findings or entry.cues & {"and", "with", "no"}:
                    break
                if entry.subject and entry.subject not in out:
                    out.append(entry.subject)
        return out

    # --- parts of the body --------------------------------------------------------------------------------------------

    def _subject(self, i: int, item: Item) -> None:
        if self.spent:
            self.group, self.spent = [], False
        self.group = [*self.group[1 - _MOST_WAITING :], item]
        following = self.items[i + 1] if i + 1 < len(self.items) else item
        if following[0].quality and following[1] == item[2]:
            self.waiting = []  # "normal heart and aortic ectasia"
        for quality, denied, doubted in self.waiting:
            self._put_together(i, item, quality, denied, doubted)
        self.spent = bool(self.waiting)

    def _quality(self, i: int, item: Item) -> None:
        ahead = self.items[i + 1] if i + 1 < len(self.items) else None
        if ahead is not None and not ahead[0].subject and (ahead[0].side or ahead[0].cues & {"article"}):
            ahead = self.items[i + 2] if i + 2 < len(self.items) else None
        near = ahead is not None and ahead[1] - item[2] <= 3
        if ahead is not None and near and ahead[0].findings and not item[0].findings:
            return  # "mediastinum normal, large effusion": what is large is the effusion
        close = ahead is not None and near and bool(ahead[0].subject)
        said = False
        if self.group and not (self.spent and close):
            for subject in self.group:
                said = self._put_together(i, subject, item, self.denied, self.doubted) or said
            self.spent = self.spent or said
        if not said:
            if self.spent or not self.group:
                self.group, self.spent = [], False
            self.waiting = [*self.waiting[1 - _MOST_WAITING :], (item, self.denied, self.doubted)]

    def _put_together(self, i: int, subject: Item, quality: Item, denied: bool, doubted: bool) -> bool:
        pair = self.lexicon.pairs.get((subject[0].subject, quality[0].quality))
        first, last = min(subject[1], quality[1]), max(subject[2], quality[2])
        if pair is None or last - first > _PAIR_REACH:
            return False
        said = {(m.finding, m.state) for m in self.mentions[-_MOST_WAITING:] if m.last > first}
        for name, state in pair:
            normal = state == "absent"
            now = "absent" if denied else "uncertain" if doubted and state == "present" else state
            if (denied and normal) or (name, now) in said:
                continue
            if not self.supposed:
                self.mentions.append(Mention(name, now, first, last, i, normal=normal))
        return True

    # --- alternatives -------------------------------------------------------------------------------------------------

    def _leave_open(self, joint: int) -> None:
        """Of what "versus" joins, none is sure."""
        left, right = self._beside(joint, -1), self._beside(joint, 1)
        if left and right:
            for n in left + right:
                if self.mentions[n].state == "present":
                    self.mentions[n] = replace(self.mentions[n], state="uncertain")

    def _beside(self, joint: int, step: int) -> list[int]:
        """The mentions of the phrase nearest to a joint on one side."""
        _, begin, end = self.items[joint]
        place = joint + step
        while 0 <= place < len(self.items):
            entry, first, last = self.items[place]
            if (begin - last if step < 0 else first - end) > _JOINED_REACH:
                break
            if entry.findings:
                return self.of_item.get(place, [])
            if entry.cues & {"stop", "but", "comma", "with"} or (step < 0 and "verb" in entry.cues):
                break
            place += step
        return []
