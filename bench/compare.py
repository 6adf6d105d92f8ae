"""Measures depeche, scikit-learn and fastText on one data set; compare.sh prepares and calls it.

Rows whose title and text have a hash that five divides are held out, about a fifth; the rest is trained on. So the split is the
same every time, and a text that appears twice is never on both sides. In every round each system is trained, then each scores.

- training: for depeche the whole command, with starting, reading the data and writing the model; for the peers the same
  without the start of Python and its imports. Each in a process of its own; memory is the peak of that process.
- bulk: all articles held out, in memory, from the text as it is in the data to a label; MB of UTF-8 of titles and texts.
- one article: every article held out by itself, likewise. depeche has walked over all of them once before either is measured, and
  so knows most of their words; the peers keep nothing from one text to the next.
- a plain loop: the same model's terms hashed, looked up in one table for each block, and counted (benches/dataset/plain.rs).
- same label: share of the articles held out that get the label that depeche gives them.
- calls over gRPC, on Linux with two cores: the texts held out, cut into pieces of one size, with 64 calls in flight on four connections for three
  seconds; the server has one core, the client the other. scikit-learn answers from grpc.aio, as one would write it.

scikit-learn has the three blocks of features that depeche has, and the same objective. Everything runs on one thread, but
for the row that says otherwise.
"""

import argparse
import asyncio
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pickle
import platform
import random
import re
import shutil
import subprocess
import sys
import time
import unicodedata
import zlib
from collections import Counter
from operator import eq, itemgetter
from pathlib import Path
from statistics import median

OURS, TWO_THREADS = "depeche", "depeche, two threads"
PLAIN, BLOCKS, WORDS, FASTTEXT = "a plain loop", "scikit-learn, the same blocks", "scikit-learn, words", "fastText"

NOT_WORD = re.compile(r"[^\w\u0300-\u036f]+")
PASSAGE_END = re.compile(r"[\n\r\v\f\x85\u2028\u2029\t]|\s{3,}")


def fail(message):
    sys.exit(f"error: {message}")


# --- The data


def split(args):
    """Writes train.jsonl and held-out.jsonl: title, text and label."""
    text_field, label_field, title_field = args.text_field, args.label_field, args.title_field or "title"
    counts, titled, names = Counter(), False, []
    with open(args.work / "train.jsonl", "w", encoding="utf-8") as train, open(
        args.work / "held-out.jsonl", "w", encoding="utf-8"
    ) as held_out:
        for where, row in rows(args.data):
            names = names or list(row)
            titled |= title_field in row
            title, text = value(row, title_field, where, None), value(row, text_field, where, "text")
            label = value(row, label_field, where, "label").strip()
            try:
                digest = hashlib.sha256(f"{title}\0{text}".encode()).digest()
            except UnicodeEncodeError as error:
                fail(f"{where}: {error}")
            is_held_out = int.from_bytes(digest[:8], "big") % 5 == 0
            counts[is_held_out] += 1
            row = json.dumps({"title": title, "text": text, "label": label}, ensure_ascii=False)
            print(row, file=held_out if is_held_out else train)
    if args.title_field and not titled:
        fail(f"{args.data}: no line has the field {title_field!r}; the first has {', '.join(names)}")
    if len(counts) < 2:
        fail(f"{args.data}: {counts.total()} rows are too few to hold some out")


def rows(file):
    """Every object of a file, and where it stands."""
    if not re.search(r"\.jsonl(\.gz)?$", file.name):
        fail(f"{file}: unknown kind of file; expected .jsonl or .jsonl.gz")
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{file}, line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    fail(f"{where}: no JSON: {error}")
                if not isinstance(row, dict):
                    fail(f"{where}: not a JSON object")
                yield where, row
    except UnicodeDecodeError as error:
        fail(f"{file}: not UTF-8: {error.reason}")
    except OSError as error:
        fail(f"can't read {file}: {error.strerror or error}")
    except (EOFError, zlib.error) as error:
        fail(f"can't unpack {file}: {error}")


def value(row, name, where, required):
    """A field's text; `required` says what it holds, where there must be something."""
    if required and name not in row:
        fail(f"{where}: no field {name!r} for the {required} (--{required}-field); there are {', '.join(row)}")
    found = row.get(name)
    if isinstance(found, (bool, list, dict)):
        fail(f"{where}, field {name!r}: expected a string, found {json.dumps(found)[:60]}")
    found = "" if found is None else str(found)
    if required and not found.strip():
        fail(f"{where}, field {name!r}: the {required} is blank")
    return found


def articles(file):
    """Titles with texts, and labels."""
    with open(file, encoding="utf-8", newline="\n") as lines:
        found = [json.loads(line) for line in lines]
    return [(row["title"], row["text"]) for row in found], [row["label"] for row in found]


def normalised(title, text):
    """The words of the whole article, and of its title or what stands in for it."""
    head = title if title.strip() else PASSAGE_END.split(text.strip(), maxsplit=1)[0]
    return tuple(NOT_WORD.sub(" ", unicodedata.normalize("NFC", part).lower()) for part in (f"{title} {text}", head))


# --- The peers, each in a process of its own


def train(args):
    """Trains a peer, writes its model, prints its times."""
    peer = train_fasttext if args.peer == FASTTEXT else train_sklearn
    print(json.dumps(peer(args)))


def train_sklearn(args):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import FeatureUnion, make_pipeline

    # Normalised articles come in pairs: the whole, the title.
    def block(part, min_df, **kind):
        return TfidfVectorizer(preprocessor=itemgetter(part), min_df=min_df, sublinear_tf=True, **kind)

    blocks = {
        "word": (1.0, block(0, 2, token_pattern=r"[\w\u0300-\u036f]+")),
        "ngram": (1.0, block(0, 5, analyzer="char_wb", ngram_range=(2, 6))),
        "title_ngram": (0.5, block(1, 2, analyzer="char_wb", ngram_range=(2, 5))),
    }
    if args.peer == WORDS:
        blocks = {"word": blocks["word"]}
    total = sum(weight for weight, _ in blocks.values())
    weights = {name: (weight / total) ** 0.5 for name, (weight, _) in blocks.items()}
    vectoriser = FeatureUnion([(name, made) for name, (_, made) in blocks.items()], transformer_weights=weights)
    solver = LogisticRegression(C=100, class_weight="balanced", tol=1e-5, max_iter=2000)

    begin = time.perf_counter()
    texts, labels = articles(args.data)
    read = time.perf_counter()
    vectors = vectoriser.fit_transform([normalised(*text) for text in texts])
    vectorised = time.perf_counter()
    solver.fit(vectors, labels)
    solved = time.perf_counter()
    with open(args.model, "wb") as file:
        pickle.dump(make_pipeline(vectoriser, solver), file)
    seconds = time.perf_counter() - begin
    return {"training": seconds, "vectorising": vectorised - read, "solving": solved - vectorised}


def train_fasttext(args):
    import fasttext

    begin = time.perf_counter()
    texts, labels = articles(args.data)
    known = sorted(set(labels))
    # Labels must not have blanks in them.
    numbers = {label: number for number, label in enumerate(known)}
    lines = [f"__label__{numbers[label]} {normalised(*text)[0]}\n" for text, label in zip(texts, labels)]
    # It takes them in the order in which they stand, and learns little where one label follows the other.
    random.Random(0).shuffle(lines)
    file = args.model.with_suffix(".txt")
    file.write_text("".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(str(file), lr=0.5, epoch=25, wordNgrams=2, thread=1, verbose=0)
    model.save_model(str(args.model))
    args.model.with_suffix(".labels").write_text(json.dumps(known), encoding="utf-8")
    return {"training": time.perf_counter() - begin}


def score(args):
    """Scores the articles held out with a peer's model; prints times and labels."""
    texts, _ = articles(args.data)
    if args.peer == FASTTEXT:
        label_all = fasttext_scorer(args.model)
    else:
        label_all = sklearn_scorer(args.model)
    label_all(texts[:20])  # to warm up
    begin = time.perf_counter()
    labels = label_all(texts)
    seconds = time.perf_counter() - begin
    single = []
    for text in texts:
        begin = time.perf_counter()
        label_all([text])
        single.append((time.perf_counter() - begin) * 1e6)
    single.sort()
    quantiles = {f"p{percent}": single[int(percent / 100 * (len(single) - 1))] for percent in (50, 99)}
    size = sum(len(part.encode()) for text in texts for part in text)
    print(json.dumps({"bulk": size / seconds / 1e6, **quantiles, "labels": labels}))


def sklearn_scorer(file):
    with open(file, "rb") as opened:
        model = pickle.load(opened)
    return lambda texts: model.predict([normalised(*text) for text in texts]).tolist()


def fasttext_scorer(file):
    import fasttext

    model = fasttext.load_model(str(file))
    known = json.loads(file.with_suffix(".labels").read_text(encoding="utf-8"))

    def label_all(texts):
        found, _ = model.predict([normalised(*text)[0] for text in texts])
        return [known[int(labels[0].removeprefix("__label__"))] for labels in found]

    return label_all


def serve(args):
    """Answers Classify with a peer's labels, and tells where."""
    import grpc

    sys.path.insert(0, str(args.model.parent))
    from depeche.v1 import classifier_pb2, classifier_pb2_grpc

    label_all = sklearn_scorer(args.model)

    class Service(classifier_pb2_grpc.ClassifierServiceServicer):
        async def Classify(self, request, context):
            label = label_all([(request.article.title, request.article.text)])[0]
            return classifier_pb2.ClassifyResponse(topic=classifier_pb2.Prediction(label=label))

    async def run():
        server = grpc.aio.server()
        classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"address=127.0.0.1:{port}", file=sys.stderr, flush=True)
        await server.wait_for_termination()

    asyncio.run(run())


# --- The comparison

# Everything on one thread; nothing of the caller's settings in the answers.
ENVIRONMENT = {
    **{name: content for name, content in os.environ.items() if not name.startswith("DEPECHE_")},
    **{f"{name}_NUM_THREADS": "1" for name in ("RAYON", "OMP", "OPENBLAS", "MKL")},
    "RUST_LOG": "warn",
}


def run(command, stdin=subprocess.DEVNULL):
    """Runs a command; its standard output, seconds, and peak memory in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdin=stdin, stdout=subprocess.PIPE, env=ENVIRONMENT)
    with process.stdout:
        out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        fail(f"exit code {process.returncode} of: {' '.join(map(str, command))}")
    # The peak is that of this process, where that is greater: it holds no data and stays small.
    unit = 1 if sys.platform == "darwin" else 1024
    return out, seconds, usage.ru_maxrss * unit / 1e6


class Ours:
    def __init__(self, args, threads):
        self.args, self.threads = args, threads
        self.model = args.work / "depeche.safetensors"

    def train(self, data):
        command = [self.args.depeche, "train", "--data", data, "--topic-field", "label", "--out", self.model]
        _, seconds, memory = run([*command, "--calibration-folds", self.args.folds, "--threads", self.threads])
        return {"training": seconds, "memory": memory}

    def serve(self):
        return [self.args.depeche, "serve", "--listen", "127.0.0.1:0", "--model", self.model]

    def times(self, data, *options):
        command = [self.args.scorer, "--model", self.model, "--data", data, "--label-field", "label", "--rounds", 3]
        times = json.loads(run([*command, *options])[0])
        quantiles = {name: times["microseconds"][name] for name in ("p50", "p99")}
        same = {"same": times["same_label"]} if "same_label" in times else {}
        return {"bulk": times["bytes"] / median(times["seconds"]) / 1e6, **quantiles, **same}

    def score(self, data):
        if self.threads > 1:
            return {}
        times = self.times(data)
        with open(data, "rb") as file:
            lines, _, _ = run([self.args.depeche, "classify", "--jsonl", "--model", self.model], file)
        labels = [json.loads(line).get("topic", {}).get("label") for line in lines.splitlines()]
        return {**times, "labels": labels}


class Plain(Ours):
    """Scores with depeche's model, as one would write it first in Rust."""

    def train(self, data):
        return {}

    def score(self, data):
        return self.times(data, "--plain")


class Peer:
    def __init__(self, args, name):
        self.name, self.model = name, args.work / f"{name.replace(' ', '-')}.model"

    def run(self, step, data):
        return run([sys.executable, __file__, step, self.name, data, self.model])

    def train(self, data):
        out, _, memory = self.run("train", data)
        return {**json.loads(out), "memory": memory}

    def serve(self):
        return [sys.executable, __file__, "serve", self.name, "-", self.model]

    def score(self, data):
        return json.loads(self.run("score", data)[0])


def quality(truth, labels):
    """Accuracy and macro-F1; the mean is over all labels that either has. What got none is wrong."""
    true, given = Counter(truth), Counter(label for label in labels if label is not None)
    right = Counter(label for label, other in zip(truth, labels) if label == other)
    f1 = [2 * right[label] / (true[label] + given[label]) for label in true.keys() | given.keys()]
    return {"accuracy": right.total() / len(truth), "macro-F1": sum(f1) / len(f1)}


def compare(args):
    train_file, held_out = args.work / "train.jsonl", args.work / "held-out.jsonl"
    systems = {OURS: Ours(args, 1), TWO_THREADS: Ours(args, 2), PLAIN: Plain(args, 1), BLOCKS: Peer(args, BLOCKS), WORDS: Peer(args, WORDS)}
    if importlib.util.find_spec("fasttext"):
        systems[FASTTEXT] = Peer(args, FASTTEXT)
    with open(held_out, encoding="utf-8", newline="\n") as lines:
        truth = [json.loads(line)["label"] for line in lines]
    results = {name: [] for name in systems}
    for turn in range(1, args.rounds + 1):
        for name, system in systems.items():
            results[name].append(system.train(train_file))
            if "training" in results[name][-1]:
                print(f"round {turn} of {args.rounds}: {name}, trained in {results[name][-1]['training']:.1f} s", file=sys.stderr)
        for name, system in systems.items():
            scores = system.score(held_out)
            if labels := scores.pop("labels", None):
                scores |= quality(truth, labels)
                if name == OURS:
                    ours = labels
                else:
                    scores["same"] = sum(map(eq, labels, ours)) / len(truth)
            results[name][-1] |= scores
            print(f"round {turn} of {args.rounds}: {name}, scored", file=sys.stderr)
    with open(train_file, "rb") as lines:
        trained_on = sum(1 for _ in lines)
    print(
        f"{trained_on} articles trained on, {len(truth)} held out; median (least to greatest) of {args.rounds} rounds; "
        f"{args.folds} calibration folds. {versions()}.\n"
    )
    print("\n".join(table(results)))
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1 and shutil.which("taskset"):
        peers = {name: system for name, system in systems.items() if name not in (TWO_THREADS, PLAIN, FASTTEXT)}
        print("\n" + "\n".join(calls(args, peers, held_out)))
    else:
        print("calls over gRPC are left out: they need taskset and two cores", file=sys.stderr)


def calls(args, systems, data):
    """Lines of Markdown: what each system answers over gRPC."""
    server_core, client_core, *_ = sorted(os.sched_getaffinity(0))
    yield "| | text, bytes | calls a second | depeche's beside it | server, processor time a call, µs | p50, µs | p99, µs | resident, MiB |"
    yield "|---" * 8 + "|"
    found = {}
    for turn in range(1, args.rounds + 1):
        for name, system in systems.items():
            command = ["taskset", "-c", server_core, *system.serve()]
            environment = ENVIRONMENT | {"RUST_LOG": "info"}
            with subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True, env=environment) as server:
                try:
                    address = next(line for line in server.stderr if "address=" in line).split("address=")[1].split()[0]
                    for size in SIZES:
                        before = processor_time(server.pid)
                        client = ["taskset", "-c", client_core, args.caller, "--address", address, "--data", data]
                        out, _, _ = run([*client, "--label-field", "label", "--bytes", size])
                        answered = json.loads(out)
                        answered["processor"] = (processor_time(server.pid) - before) / answered["all"] * 1e6
                        answered["rate"] = answered["calls"] / answered["seconds"]
                        answered["resident"] = resident(server.pid)
                        found.setdefault((name, size), []).append(answered)
                finally:
                    server.kill()
            print(f"round {turn} of {args.rounds}: {name}, called", file=sys.stderr)
    for size in SIZES:
        for name in systems:
            of = lambda what, name=name: median(answered[what] for answered in found[name, size])
            beside = "" if name == OURS else f"{of('rate', OURS) / of('rate'):.1f} times"
            figures = " | ".join(number(of(what)) for what in ("processor", "p50", "p99", "resident"))
            yield f"| {name} | {size:,} | {number(of('rate'))} | {beside} | {figures} |"


def processor_time(process):
    """Seconds of processor time so far; the fields after the name, which ends in the last parenthesis."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process):
    """MiB of memory in use."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def versions():
    found = {name: package.version for package in importlib.metadata.distributions() if (name := package.name)}
    packages = (f"{name} {found[name]}" for name in ("scikit-learn", "numpy", "fasttext", "fasttext-wheel") if name in found)
    return ", ".join([f"Python {platform.python_version()}", *packages])


COLUMNS = {
    "training": "training, s",
    "vectorising": "of which vectorising, s",
    "solving": "solver, s",
    "memory": "peak memory, MB",
    "bulk": "bulk, MB/s",
    "p50": "one article, p50, µs",
    "p99": "p99, µs",
    "accuracy": "accuracy",
    "macro-F1": "macro-F1",
    "same": "same label",
}
SHARES = ("accuracy", "macro-F1", "same")

# Bytes of text in a call over gRPC.
SIZES = (600, 4096, 20480)


def table(results):
    """Lines of Markdown: a row for each system, and below each peer what depeche has of its figures."""
    yield f"| | {' | '.join(COLUMNS.values())} |"
    yield "|---" * (1 + len(COLUMNS)) + "|"
    figures = {
        name: {column: [found[column] for found in rounds if column in found] for column in COLUMNS}
        for name, rounds in results.items()
    }
    for name, found in figures.items():
        yield f"| {name} | {' | '.join(cell(column, found[column]) for column in COLUMNS)} |"
        if name != OURS:
            pairs = {column: (figures[OURS][column], found[column]) for column in COLUMNS if column not in SHARES}
            ratios = {column: number(median(ours) / median(its)) for column, (ours, its) in pairs.items() if ours and its}
            yield f"| *depeche / {name}* | {' | '.join(ratios.get(column, '') for column in COLUMNS)} |"


def cell(column, values):
    if not values:
        return ""
    shown = [f"{value:.4f}" if column in SHARES else number(value) for value in (median(values), min(values), max(values))]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def number(value):
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def main():
    if sys.argv[1:2] in (["train"], ["score"], ["serve"]):
        step, peer, *files = sys.argv[1:]
        data, model = map(Path, files)
        {"train": train, "score": score, "serve": serve}[step](argparse.Namespace(peer=peer, data=data, model=model))
        return
    parser = argparse.ArgumentParser(prog="compare.sh", description="Compares depeche with scikit-learn and fastText.")
    parser.add_argument("step", choices=["split", "compare"], help=argparse.SUPPRESS)
    parser.add_argument("data", type=Path, metavar="DATA", help="labelled articles, .jsonl or .jsonl.gz")
    parser.add_argument("--text-field", default="text", metavar="NAME", help="holds the text [default: text]")
    parser.add_argument("--title-field", metavar="NAME", help="holds the title [default: title, where there is one]")
    parser.add_argument("--label-field", default="label", metavar="NAME", help="holds the label [default: label]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times that everything is measured [default: 3]")
    parser.add_argument("--folds", type=int, default=0, metavar="N", help="depeche's calibration folds [default: 0, none]")
    for name in ("work", "depeche", "scorer", "caller"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: at least one")
    {"split": split, "compare": compare}[args.step](args)


if __name__ == "__main__":
    main()
