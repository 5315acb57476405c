"""A file of lines that grows, for what sends the lines of a file."""

import threading
import time

from suite import WORK, millstream, until

COUNT = 6000
KILLED_AT = (1500, 4000)


class Lines:
    def __init__(self, broker):
        self.broker = broker
        self.path = WORK / "lines.txt"
        self.written = []

    def grow(self, count):
        """Appends lines, a thousand in two seconds."""
        with open(self.path, "a") as file:
            for number in range(len(self.written), len(self.written) + count):
                self.written.append(f"line {number}")
                file.write(f"line {number}\n")
                if number % 10 == 9:
                    file.flush()
                    time.sleep(0.02)

    def grow_while_broker_is_killed(self):
        """Appends lines; twice meanwhile the broker is killed (SIGKILL) and started again."""
        growing = threading.Thread(target=self.grow, args=(COUNT,))
        growing.start()
        for count in KILLED_AT:
            until(lambda: len(self.written) > count, f"{count} lines")
            self.broker.kill_and_start()
        growing.join()

    def sent(self, topic):
        """What the topic has of them."""
        return millstream("consume", topic, "--bootstrap", self.broker.address).splitlines()

    def until_sent(self, *topics):
        for topic in topics:
            until(lambda: self.written[-1] in self.sent(topic), f"the last line in {topic}")
