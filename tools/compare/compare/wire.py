"""The little of Kafka's protocol that the orchestrator speaks itself, over one blocking connection.

What it times starts a process and ends with an acknowledgement, so nothing may be slow: the frames are
made beforehand, the connection is tried again every half millisecond.
"""

import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, CREATE_TOPICS = 0, 1, 2, 19
VERSIONS = {PRODUCE: 7, FETCH: 4, LIST_OFFSETS: 1, CREATE_TOPICS: 2}
TOPIC_ALREADY_EXISTS = 36
EARLIEST, LATEST = -2, -1
CONNECT_PAUSE_SECONDS = 0.0005
RETRY_PAUSE_SECONDS = 0.002
REPLY_SECONDS = 60
FIRST_TOPIC = "first-record"


class Refused(Exception):
    pass


class Connection:
    def __init__(self, address, timeout=REPLY_SECONDS):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, frame):
        self.socket.sendall(frame)

    def ask(self, frame):
        """Sends a request and returns a Reader of its reply's body."""
        self.send(frame)
        size = struct.unpack(">i", self._read(4))[0]
        return Reader(self._read(size)[4:])

    def _read(self, size):
        parts = bytearray()
        while len(parts) < size:
            part = self.socket.recv(size - len(parts))
            if not part:
                raise ConnectionError("the broker closed the connection")
            parts += part
        return bytes(parts)


class Reader:
    """Takes primitives off the front of a reply."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, code):
        value = struct.unpack_from(">" + code, self.body, self.at)[0]
        self.at += struct.calcsize(">" + code)
        return value

    def string(self):
        size = max(self.take("h"), 0)
        self.at += size
        return self.body[self.at - size : self.at].decode()

    def array(self, one):
        return [one(self) for _ in range(self.take("i"))]


def first_record(address, started, deadline_seconds, is_running=lambda: True):
    """Seconds from `started` (time.monotonic) until a broker has acknowledged a record, of a topic that
    is created on the way if it is missing. It is called as soon as the broker's process was started."""
    create = create_topic_frame(FIRST_TOPIC, 1)
    record = produce_frame(FIRST_TOPIC, [0], batch(b"x" * 100))
    while time.monotonic() < started + deadline_seconds and is_running():
        try:
            with Connection(address) as connection:
                retry(lambda: created(connection.ask(create)), (0, TOPIC_ALREADY_EXISTS))
                retry(lambda: produced(connection.ask(record)), (0,))
            return time.monotonic() - started
        except OSError:
            time.sleep(CONNECT_PAUSE_SECONDS)
    raise Refused(f"{address} acknowledged nothing within {deadline_seconds} s")


def retry(ask, accepted):
    """A broker that has just started may refuse for a while. It is asked again until it accepts."""
    deadline = time.monotonic() + REPLY_SECONDS
    while (code := ask()) not in accepted:
        if time.monotonic() > deadline:
            raise Refused(f"refused with error {code}")
        time.sleep(RETRY_PAUSE_SECONDS)


def create_topic(address, topic, partitions):
    """Creates it and waits until all its partitions are led: a broker may need a while for many."""
    create = create_topic_frame(topic, partitions)
    look = list_offsets_frame(topic, partitions, LATEST)
    with Connection(address) as connection:
        retry(lambda: created(connection.ask(create)), (0, TOPIC_ALREADY_EXISTS))
        retry(lambda: max(error for _, error, _ in listed(connection.ask(look))), (0,))


def write_to_each(address, topic, partitions):
    """A record to each partition, all in one request."""
    with Connection(address) as connection:
        frame = produce_frame(topic, range(partitions), batch(b"x" * 100))
        retry(lambda: produced(connection.ask(frame)), (0,))


def offsets(address, topic, partitions, when):
    """The first (EARLIEST) or the next (LATEST) offset of each partition."""
    with Connection(address) as connection:
        found = listed(connection.ask(list_offsets_frame(topic, partitions, when)))
    if wrong := [entry for entry in found if entry[1]]:
        raise Refused(f"offsets of {topic}: partition {wrong[0][0]}: error {wrong[0][1]}")
    return [offset for _, _, offset in sorted(found)]


def park(address, topic, wait_ms):
    """A connection with a fetch that waits for a record; whoever calls it keeps it open."""
    connection = Connection(address)
    connection.send(fetch_frame(topic, wait_ms))
    return connection


# ---- frames ----


def create_topic_frame(topic, partitions):
    one = string(topic) + struct.pack(">ih", partitions, 1) + array() + array()
    return request(CREATE_TOPICS, array(one) + struct.pack(">i?", 30_000, False))


def produce_frame(topic, partitions, records, acks=-1):
    each = [struct.pack(">ii", partition, len(records)) + records for partition in partitions]
    topics = array(string(topic) + array(*each))
    return request(PRODUCE, struct.pack(">hhi", -1, acks, 30_000) + topics)


def list_offsets_frame(topic, partitions, when):
    one = [struct.pack(">iq", partition, when) for partition in range(partitions)]
    return request(LIST_OFFSETS, struct.pack(">i", -1) + array(string(topic) + array(*one)))


def fetch_frame(topic, wait_ms):
    one = struct.pack(">iqi", 0, 0, 1 << 20)
    head = struct.pack(">iiiib", -1, wait_ms, 1, 1 << 20, 0)
    return request(FETCH, head + array(string(topic) + array(one)))


def request(key, body):
    head = struct.pack(">hhi", key, VERSIONS[key], 1) + string("millstream-compare")
    return struct.pack(">i", len(head) + len(body)) + head + body


def string(text):
    return struct.pack(">h", len(text.encode())) + text.encode()


def array(*entries):
    return struct.pack(">i", len(entries)) + b"".join(entries)


def created(reader):
    reader.take("i")
    [code] = reader.array(lambda r: (r.string(), r.take("h"), r.string())[1])
    return code


def produced(reader):
    def partition(r):
        return (r.take("i"), r.take("h"), r.take("q"), r.take("q"), r.take("q"))[1]

    [codes] = reader.array(lambda r: (r.string(), r.array(partition))[1])
    return max(codes)


def listed(reader):
    """Partition, error, offset."""

    def partition(r):
        index, error, _, offset = (r.take(code) for code in "ihqq")
        return index, error, offset

    [found] = reader.array(lambda r: (r.string(), r.array(partition))[1])
    return found


def batch(value):
    """A record batch (version 2) of one record without a key."""
    now = int(time.time() * 1000)
    record = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    records = varint(len(record)) + record
    checked = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + records
    after_length = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(after_length)) + after_length


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def crc32c(data):
    """Castagnoli's, bit by bit reflected: the batches here are small."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def crc_of_byte(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [crc_of_byte(byte) for byte in range(256)]
