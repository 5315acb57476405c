"""A group of three members: one joins late, one leaves, one is killed; then all is read once."""

import threading
import time

from .program import Failed

PARTITIONS = 6
BURST = 30
PATIENCE_SECONDS = 90
BURST_PAUSE_SECONDS = 0.5


def check_group(subject):
    topic = subject.topic("group")
    subject.broker.create(topic, PARTITIONS)
    trial = Trial(subject, topic)
    try:
        first, second = trial.join("first"), trial.join("second")
        trial.until_shared_by("first", "second")
        third = trial.join("third")
        trial.until_shared_by("third")
        second.terminate()
        trial.until_processed_by("first", "third")
        third.kill()
        trial.until_processed_by("first")
        first.terminate()
        trial.next_member_sees_only_what_is_new()
        trial.check_nothing_came_again()
    finally:
        trial.end()


def check_resume(subject):
    """A member takes up where the one before it stopped."""
    topic = subject.fill("resume", 1, 100)
    name = subject.topic("resumers")
    for start in (0, 40):
        printed = subject.program.call("member", group=name, topic=topic, max=40)
        offsets = [entry["processed"][1] for entry in printed if "processed" in entry]
        if offsets != list(range(start, start + 40)):
            raise Failed(f"processed offsets {offsets[:3]}..{offsets[-3:]} instead of {start}..{start + 39}")


class Trial:
    """The members of one group, and everything that they said, in the order in which it came."""

    def __init__(self, subject, topic):
        self.subject = subject
        self.topic = topic
        self.group = subject.topic("members")
        self.members = {}
        self.lock = threading.Lock()
        self.processed = []  # (member, partition, offset)
        self.committed = {}  # partition -> next offset
        self.again = []  # what was processed although it was committed
        self.ends = [0] * PARTITIONS

    def join(self, name):
        member = self.subject.program.start(
            "member", lambda entry: self.note(name, entry), group=self.group, topic=self.topic
        )
        self.members[name] = member
        return member

    def note(self, name, entry):
        with self.lock:
            if "processed" in entry:
                partition, offset = entry["processed"]
                if offset < self.committed.get(partition, 0):
                    self.again.append((name, partition, offset))
                self.processed.append((name, partition, offset))
            for partition, offset in entry.get("committed", []):
                self.committed[partition] = max(offset, self.committed.get(partition, 0))

    def until_shared_by(self, *names):
        """Sends records until each of these members has processed one of them."""
        mark = len(self.processed)
        self.until(lambda: set(names) <= self.busy_since(mark), f"{' and '.join(names)} to take part")

    def until_processed_by(self, *names):
        """Sends a burst, and waits until these members have processed all of it, and all before."""
        starts = list(self.ends)
        self.burst()
        wanted = {
            (partition, offset)
            for partition in range(PARTITIONS)
            for offset in range(starts[partition], self.ends[partition])
        }

        def have():
            with self.lock:
                return {(partition, offset) for name, partition, offset in self.processed if name in names}

        self.until(lambda: wanted <= have(), f"{' and '.join(names)} to take over", bursts=False)
        self.until(lambda: self.left() == 0, "every record to be processed", bursts=False)

    def next_member_sees_only_what_is_new(self):
        starts = list(self.ends)
        fourth = self.join("fourth")
        self.burst()
        self.until(lambda: self.left() == 0, "a later member to read on", bursts=False)
        fourth.terminate()
        old = [entry for entry in self.processed if entry[0] == "fourth" and entry[2] < starts[entry[1]]]
        if old:
            raise Failed(f"a later member processed {len(old)} committed records again, {old[0]} first")

    def check_nothing_came_again(self):
        if not self.committed and "commits" not in self.subject.without:
            raise Failed("no member ever printed a commit")
        if self.again:
            raise Failed(f"{len(self.again)} records came again after their commit, {self.again[0]} first")

    def until(self, done, what, bursts=True):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            for member in list(self.members.values()):
                if member.process.poll() != -9:
                    member.check()
            if time.monotonic() > deadline:
                raise Failed(f"waited {PATIENCE_SECONDS} s for {what}; {self.left()} records unprocessed")
            if bursts:
                self.burst()
            time.sleep(BURST_PAUSE_SECONDS)

    def burst(self):
        self.subject.broker.send(self.topic, PARTITIONS, BURST)
        self.ends = [end + BURST // PARTITIONS for end in self.ends]

    def busy_since(self, mark):
        with self.lock:
            return {name for name, _, _ in self.processed[mark:]}

    def left(self):
        with self.lock:
            return sum(self.ends) - len({(partition, offset) for _, partition, offset in self.processed})

    def end(self):
        for member in self.members.values():
            if member.process.poll() is None:
                member.kill()
