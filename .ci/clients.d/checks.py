"""What the checks in Python share: servers, stubs made by server reflection, and counting."""

import contextlib
import logging
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARTICLE = "Le chef d’état-major algérien est arrivé lundi à Niamey. Les deux armées ont signé un accord de formation."

logging.basicConfig()

# Sends far more to one connection than the default of 4 MiB lets come back.
UNBOUNDED = [("grpc.max_receive_message_length", -1)]


class Checks:
    """Runs checks, and counts them."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, check):
        """A check fails by an exception; what it returns, where it returns anything, is told."""
        try:
            seen = check()
        except Exception:
            self.failed += 1
            print(f"FAILED: {name}; seen:\n{traceback.format_exc()}", flush=True)
        else:
            self.passed += 1
            print(f"ok: {name}" + (f" ({seen})" if seen else ""), flush=True)

    def total(self):
        """The last line; exits."""
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed > 0)


def expect(condition, *seen):
    """`assert`, but with what was seen."""
    if not condition:
        raise AssertionError(*seen)


def until(what, condition, seconds=10):
    """Waits until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Server:
    """`depeche serve`, on free ports unless told otherwise."""

    def __init__(self, *arguments, listen="127.0.0.1:0", env=None):
        command = [ROOT / "target/release/depeche", "serve", "--listen", listen, *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        self.log = []
        started = queue.Queue()

        # The log is read all the time, so that the server never waits for a reader.
        def read():
            for line in self.process.stderr:
                self.log.append(line)
                if " ready address=" in line:
                    started.put(True)
            started.put(False)

        threading.Thread(target=read, daemon=True).start()
        expect(started.get(timeout=20), "the server did not start", self.log)
        self.address = self._address("ready")
        self.admin = self._address("admin listener")

    def _address(self, what):
        found = re.search(rf" {what} address=(\S+)", "".join(self.log))
        return found and found[1]

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Drains the server: its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def metrics(self):
        """What Prometheus would read."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def calls(self, method, *codes):
        """How many calls of a method ended in one of the codes."""
        found = re.findall(r"^rpc_server_call_duration_seconds_count\{(.*)\} (\d+)$", self.metrics(), re.MULTILINE)
        return sum(int(count) for labels, count in found if f'{method}"' in labels and any(f'code="{code}"' in labels for code in codes))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def folder():
    """A temporary folder."""
    path = pathlib.Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Api:
    """What a server offers, learnt by reflection: no code is generated."""

    def __init__(self, channel):
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def message(self, name, **fields):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"depeche.v1.{name}"))(**fields)

    def request(self, text=ARTICLE, **options):
        return self.message("ClassifyRequest", article=self.message("Article", text=text), options=self.message("ClassifyOptions", **options))

    def batch(self, count=1, text=ARTICLE):
        return self.message("BatchClassifyRequest", articles=[self.message("Article", text=text)] * count)

    def slow_batch(self):
        """Nearly as much as one message may hold: it keeps a worker busy for a second or so."""
        return self.batch(1000, ARTICLE * 130)

    def stub(self, channel, service="ClassifierService"):
        return Stub(self.pool.FindServiceByName(f"depeche.v1.{service}"), channel)


class Stub:
    """The methods of a service."""

    def __init__(self, service, channel):
        for method in service.methods:
            kind = channel.stream_stream if method.client_streaming else channel.unary_unary
            request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
            path = f"/{service.full_name}/{method.name}"
            setattr(self, method.name, kind(path, request_serializer=request.SerializeToString, response_deserializer=reader(response)))


def reader(kind):
    """Reads a message; grpcio would not tell what it was that could not be read."""

    def read(data):
        try:
            return kind.FromString(data)
        except DecodeError:
            logging.exception("no %s in %d bytes: %s", kind.DESCRIPTOR.full_name, len(data), data.hex())
            raise

    return read


def error_of(call):
    """The error that a call ends in."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")
