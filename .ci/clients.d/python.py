#!/usr/bin/env python3
"""Checks with grpcio: all kinds of calls, health, compression, deadlines, overload, keepalive, offsets, a new model under load."""

import contextlib
import os
import signal
import socket
import threading
import time

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from checks import ARTICLE, ROOT, UNBOUNDED, Api, Checks, Server, error_of, expect, folder, until

ONE_WORKER = ("--workers", 1, "--queue", 0, "--max-response-bytes", 100_000_000)


def details_of(error):
    """The details of an error by their kind, and how many there are."""
    details = rpc_status.from_call(error).details
    found = {}
    for detail in details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(detail.value)
    expect(len(found) == len(details), details)
    return found


def unary():
    answer = stub.Classify(api.request())
    expect(answer.topic.label == "military_cooperation", answer)
    expect(answer.model.startswith("models/depeche-fr/versions/"), answer.model)


def batch():
    expect(len(stub.BatchClassify(api.batch(20)).responses) == 20)


def stream():
    texts = [ARTICLE, "", "Un mot."] * 100
    requests = (api.message("StreamClassifyRequest", article=api.message("Article", article_id=str(at), text=text)) for at, text in enumerate(texts))
    answers = list(stub.StreamClassify(requests))
    expect([answer.article_id for answer in answers] == [str(at) for at in range(300)], len(answers))
    expect([answer.WhichOneof("outcome") for answer in answers] == ["response", "error", "response"] * 100)
    expect(answers[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], answers[1])


def details():
    error = error_of(lambda: stub.BatchClassify(api.batch(3, " ")))
    expect(error.code() == grpc.StatusCode.INVALID_ARGUMENT, error)
    found = details_of(error)
    info = found[error_details_pb2.ErrorInfo]
    expect((info.domain, info.reason, info.metadata["violations"]) == ("depeche.v1", "INVALID_ARGUMENT", "3"), info)
    fields = [violation.field for violation in found[error_details_pb2.BadRequest].field_violations]
    expect(fields == ["articles[0].text", "articles[1].text", "articles[2].text"], fields)


def offsets():
    # Characters of one to four bytes, and of one or two units of UTF-16.
    lines = ["Lire aussi : le prix du mil recule 😀 à Zinder", "😀 L’état-major algérien 𝒳 est arrivé à Niamey. Les deux armées ont signé un accord de formation."]
    text = "\n".join(lines)
    answer = stub.Classify(api.request(text, offset_encoding="OFFSET_ENCODING_UTF32", max_contributions=1000))
    expect([text[passage.begin : passage.end] for passage in answer.passages] == lines, answer.passages)
    words = [(term.term, text[place.begin : place.end].lower()) for term in answer.topic.contributions if term.block == "word" for place in term.occurrences]
    expect(("armées", "armées") in words or ("armees", "armées") in words, words)
    expect(all(len(term) == len(found) for term, found in words if " " not in term), words)
    return f"{len(words)} places of words"


def gzip():
    # Bytes are counted on their way, since grpcio tells nobody what was compressed.
    with Relay(server.address) as relay, grpc.insecure_channel(relay.address, compression=grpc.Compression.Gzip) as channel:
        request = api.batch(200)
        answer = api.stub(channel).BatchClassify(request)
        sent, received = relay.sent, relay.received
    expect(sent < request.ByteSize() / 4, sent, request.ByteSize())
    expect(received < answer.ByteSize() / 4, received, answer.ByteSize())
    return f"{sent} bytes for {request.ByteSize()}, {received} for {answer.ByteSize()}"


class Relay:
    """Hands one connection on to a server, and counts its bytes."""

    def __init__(self, address):
        self.sent = self.received = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        host, port = address.split(":")
        self.server = socket.create_connection((host, int(port)))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        self.client, _ = self.listener.accept()
        threading.Thread(target=self._hand_on, args=(self.client, self.server, "sent"), daemon=True).start()
        self._hand_on(self.server, self.client, "received")

    def _hand_on(self, source, target, counter):
        # Either side may be gone first.
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                setattr(self, counter, getattr(self, counter) + len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def watch():
    with Server("--drain-delay", "1s") as watched, grpc.insecure_channel(watched.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        expect(health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING)
        call = health.Watch(health_pb2.HealthCheckRequest(service="depeche.v1.ClassifierService"))
        expect(next(call).status == health_pb2.HealthCheckResponse.SERVING)
        watched.signal(signal.SIGTERM)
        expect(next(call).status == health_pb2.HealthCheckResponse.NOT_SERVING)
        # Calls are still taken during the delay.
        api.stub(channel).Classify(api.request())
        expect(list(call) == [] and call.code() == grpc.StatusCode.OK, call)
        expect(watched.process.wait(timeout=10) == 0, watched.log)


def silent():
    # As balancers do that only look whether somebody listens, or that connect before they have a call.
    with Server("--drain-delay", "0s") as held, socket.create_connection(held.address.split(":")):
        started = time.monotonic()
        expect(held.stop() == 0 and time.monotonic() - started < 5, held.log)


def begin_slow(stub, request):
    """A slow batch that has got the only worker, and the refusal of another one meanwhile."""
    while True:
        call = stub.BatchClassify.future(request)
        while not call.done():
            probe = stub.BatchClassify.future(api.batch())
            if probe.exception() is not None:
                return call, probe.exception()
        # A probe had the worker.
        expect(call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, call)


def until_free(stub):
    """How long it takes until the worker takes a batch."""
    started = time.monotonic()
    while True:
        error = stub.BatchClassify.future(api.batch()).exception()
        if error is None:
            return time.monotonic() - started
        expect(error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error)


def overload():
    call, refused = begin_slow(busy_stub, slow)
    expect(refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused)
    found = details_of(refused)
    expect(found[error_details_pb2.ErrorInfo].reason == "OVERLOADED", found)
    expect(found[error_details_pb2.RetryInfo].retry_delay.ToTimedelta().total_seconds() > 0, found)
    busy_stub.Classify(api.request())
    expect(len(call.result().responses) == len(slow.articles))


def cancel():
    before = busy.calls("BatchClassify", "CANCELLED")
    call, _ = begin_slow(busy_stub, slow)
    call.cancel()
    freed = until_free(busy_stub)
    expect(freed < whole / 2, f"freed after {freed} s; the batch takes {whole} s")
    until("a CANCELLED is counted", lambda: busy.calls("BatchClassify", "CANCELLED") == before + 1)
    return f"freed after {freed * 1000:.0f} ms of {whole * 1000:.0f} ms"


def deadline():
    # grpcio ends the call by itself, so it is the server that is asked whether it has ended there too.
    before = busy.calls("BatchClassify", "DEADLINE_EXCEEDED", "CANCELLED")
    error = error_of(lambda: busy_stub.BatchClassify(slow, timeout=whole / 3))
    expect(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error)
    freed = until_free(busy_stub)
    expect(freed < whole / 2, f"freed after {freed} s; the batch takes {whole} s")
    until("the end is counted", lambda: busy.calls("BatchClassify", "DEADLINE_EXCEEDED", "CANCELLED") == before + 1)
    return f"freed after {freed * 1000:.0f} ms of {whole * 1000:.0f} ms"


def keepalive():
    # Far more often than the 20 s of a usual client; the log of the HTTP/2 library shows that pings come, and no GOAWAY goes.
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
    with Server("--admin-listen", "127.0.0.1:0", env={**os.environ, "RUST_LOG": "info,h2=debug"}) as pinged:
        with grpc.insecure_channel(pinged.address, options) as channel:
            api.stub(channel).Classify(api.request())
            time.sleep(5)
            log = "".join(pinged.log)
            pings = log.count("received frame=Ping")
            expect(pings >= 3 and "GoAway" not in log, log)
            expect("depeche_connections_total" not in pinged.metrics(), pinged.metrics())
            api.stub(channel).Classify(api.request())
    return f"{pings} pings"


def impatient():
    # Calls that are given up before the server has read them, more than HTTP/2 libraries take for an accident. grpcio would connect again and tell nobody, so it is
    # the log of the HTTP/2 library that is looked at.
    with Server(env={**os.environ, "RUST_LOG": "info,h2=debug"}) as paused, grpc.insecure_channel(paused.address) as channel:
        paused_stub = api.stub(channel)
        paused_stub.Classify(api.request())
        paused.signal(signal.SIGSTOP)
        try:
            given_up = [paused_stub.Classify.future(api.request(), timeout=0.3) for _ in range(100)]
            codes = {call.code() for call in given_up}
            expect(codes == {grpc.StatusCode.DEADLINE_EXCEEDED}, codes)
            patient = paused_stub.Classify.future(api.request(), timeout=60)
            # All of it is on its way before the server reads on.
            time.sleep(1)
        finally:
            paused.signal(signal.SIGCONT)
        expect(patient.result().topic.label == "military_cooperation")
        log = lambda: "".join(paused.log)
        until("all are told", lambda: log().count("received frame=Reset") >= 100 or "GoAway" in log())
        expect("GoAway" not in log(), log()[-1000:])


def reload():
    with folder() as path:
        first = (ROOT / "models/depeche-fr.safetensors").read_bytes()
        # Another name is another model; it is as long as the first, so the file stays whole.
        models = [first, first.replace(b"depeche-fr", b"depeche-xx")]
        (path / "model").write_bytes(first)
        with Server("--model", path / "model") as reloaded, grpc.insecure_channel(reloaded.address) as channel:
            loaded = api.stub(channel)
            answers, failures, is_over = [], [], threading.Event()

            def load():
                while not is_over.is_set():
                    try:
                        answers.append(loaded.Classify(api.request()).model.split("/")[1])
                    except grpc.RpcError as error:
                        failures.append(error)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            for times in range(1, 11):
                name = ("depeche-fr", "depeche-xx")[times % 2]
                (path / "next").write_bytes(models[times % 2])
                (path / "next").rename(path / "model")
                reloaded.signal(signal.SIGHUP)
                until("the new model answers", lambda: answers[-1:] == [name] or failures)
            is_over.set()
            for thread in threads:
                thread.join()
            expect(not failures and set(answers) == {"depeche-fr", "depeche-xx"}, failures, set(answers))
    return f"{times} reloads, {len(answers)} calls, {len(failures)} failures"


checks = Checks()
with Server("--admin-listen", "127.0.0.1:0") as server, grpc.insecure_channel(server.address) as main:
    api = Api(main)
    stub = api.stub(main)
    checks.run("Classify", unary)
    checks.run("BatchClassify", batch)
    checks.run("StreamClassify", stream)
    checks.run("details by grpcio-status", details)
    checks.run("offsets in code points cut Python's strings", offsets)
    checks.run("gzip both ways", gzip)
    checks.run("Check and Watch, which sees NOT_SERVING and ends", watch)
    checks.run("a connection without a word does not hold the stop", silent)
    with Server(*ONE_WORKER, "--admin-listen", "127.0.0.1:0") as busy, grpc.insecure_channel(busy.address, UNBOUNDED) as channel:
        busy_stub = api.stub(channel)
        slow = api.slow_batch()
        started = time.monotonic()
        busy_stub.BatchClassify(slow)
        whole = time.monotonic() - started
        checks.run("overload is refused at once, with RetryInfo", overload)
        checks.run("a cancelled batch frees its worker", cancel)
        checks.run("a batch over its deadline frees its worker", deadline)
    checks.run("a ping a second draws no GOAWAY", keepalive)
    checks.run("a connection outlives a hundred calls given up unread", impatient)
    checks.run("a new model under load", reload)
checks.total()
