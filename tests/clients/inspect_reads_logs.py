"""Has inspect_ai itself read a folder of logs, compares all it finds with what was expected, and spoils copies of them.

    python -m venv v && v/bin/pip install inspect_ai==0.3.285 pandas pyarrow jsonschema
    v/bin/python tests/clients/inspect_reads_logs.py FOLDER EXPECTED.json [--schema FILE] [--mutations]

EXPECTED.json (`-` for standard input) says of every file of the folder what is in it; but for samples and scores, what
it leaves out is not compared:

    {"NAME.eval": {"status": "success", "task": "…", "model": "…", "epochs": 3, "tags": ["seed=3"],
                   "metadata": {"seed": 3}, "scores": ["score", "alignment"], "means": {"score": 50.0},
                   "samples": [{"id": "q01-hey", "epoch": 1, "system": null, "user": "Hey", "assistant": "Hello",
                                "stop_reason": "stop", "target": "", "output_tokens": 7,
                                "scores": {"score": {"value": null, "reason": "refusal", "explanation": "…"}}}]}}

A value of null is a missing score, which Inspect reads as NaN. With `--mutations` copies are spoiled in every way that
`inspect-log.md` names, and the reader has to fail where it says so, which proves that these checks can fail.
Prints one line of JSON; ends with 1 and a list of what differs otherwise.
"""
import argparse
import copy
import json
import math
import os
import struct
import sys
import tempfile
import zipfile

import pandas

from inspect_ai.analysis import evals_df, samples_df
from inspect_ai.log import (
    list_eval_logs,
    read_eval_log,
    read_eval_log_sample,
    read_eval_log_sample_summaries,
    read_eval_log_samples,
)

arguments = argparse.ArgumentParser()
arguments.add_argument("folder")
arguments.add_argument("expected")
arguments.add_argument("--schema", default="")
arguments.add_argument("--mutations", action="store_true")
arguments = arguments.parse_args()
wrong = []


def compare(what, found, expected):
    """Notes a difference; numbers are equal up to rounding, and a missing score is NaN."""
    if isinstance(found, float) and isinstance(expected, (int, float)) and not isinstance(expected, bool):
        same = math.isclose(found, expected, rel_tol=1e-12)
    else:
        same = found == expected
    if not same:
        wrong.append(f"{what}: found {found!r}, expected {expected!r}")


def compare_field(what, found, expected, field):
    if field in expected:
        compare(f"{what}: {field}", found, expected[field])


def is_missing(value):
    return isinstance(value, float) and math.isnan(value)


def compare_scores(what, found, expected, is_short=False):
    compare(f"{what}: names of scores", sorted(found or {}), sorted(expected))
    for name in set(found or {}) & set(expected):
        score, wanted = found[name], expected[name]
        if wanted["value"] is None:
            compare(f"{what}: {name} is missing", is_missing(score.value), True)
            compare(f"{what}: reason of {name}", bool(score.reason), True)
        else:
            compare(f"{what}: {name}", float(score.value), wanted["value"])
            compare(f"{what}: reason of {name}", score.reason, None)
        for field in ("reason", "explanation") if not is_short else ("reason",):
            compare_field(f"{what}: {name}", getattr(score, field), wanted, field)
        for field, value in wanted.get("metadata", {}).items():
            compare(f"{what}: {name}: {field}", (score.metadata or {}).get(field), value)


def compare_sample(what, sample, expected):
    roles = {message.role: message.text for message in sample.messages}
    order = [message.role for message in sample.messages]
    system = ["system"] if expected.get("system") is not None else []
    if "user" in expected:
        compare(f"{what}: roles", order, system + ["user", "assistant"])
    for role in ("system", "user", "assistant"):
        compare_field(what, roles.get(role), expected, role)
    compare_field(what, sample.target, expected, "target")
    compare_field(what, sample.output.stop_reason, expected, "stop_reason")
    compare(f"{what}: completion", sample.output.completion, roles.get("assistant"))
    if "output_tokens" in expected:
        used = sum(usage.output_tokens for usage in sample.model_usage.values())
        compare(f"{what}: output_tokens", used, expected["output_tokens"])
    for field, value in expected.get("metadata", {}).items():
        compare(f"{what}: {field}", sample.metadata.get(field), value)
    compare_scores(what, sample.scores, expected["scores"])


def compare_header(what, log, expected):
    compare(f"{what}: version", log.version, 2)
    compare_field(what, log.status, expected, "status")
    compare_field(what, log.eval.task, expected, "task")
    compare_field(what, log.eval.model, expected, "model")
    compare_field(what, log.eval.config.epochs, expected, "epochs")
    compare_field(what, sorted(log.tags), expected, "tags")
    for field, value in expected.get("metadata", {}).items():
        compare(f"{what}: metadata: {field}", log.eval.metadata.get(field), value)
    scores = {score.name: score for score in log.results.scores}
    compare_field(what, list(scores), expected, "scores")
    compare(f"{what}: scorers", [scorer.name for scorer in log.eval.scorers], list(scores))
    for name, mean in expected.get("means", {}).items():
        metric = scores[name].metrics.get("mean")
        compare(f"{what}: mean of {name}", metric and metric.value, mean)
    for name, score in scores.items():
        for metric in score.metrics.values():
            compare(f"{what}: {name}: {metric.name} is a number", math.isfinite(metric.value), True)
        values = [sample["scores"][name]["value"] for sample in expected["samples"] if name in sample["scores"]]
        missing = len(expected["samples"]) - len(values) + values.count(None)
        compare(f"{what}: unscored by {name}", score.unscored_samples, missing)
        compare(f"{what}: scored by {name}", score.scored_samples, len(expected["samples"]) - missing)


def check_log(path, expected):
    name = os.path.basename(path)
    by_place = {(sample["id"], sample["epoch"]): sample for sample in expected["samples"]}
    compare(f"{name}: places expected", len(by_place), len(expected["samples"]))
    compare_header(f"{name} (header)", read_eval_log(path, header_only=True), expected)
    log = read_eval_log(path)
    compare_header(name, log, expected)
    compare(f"{name}: samples", sorted((sample.id, sample.epoch) for sample in log.samples), sorted(by_place))
    compare(f"{name}: total_samples", log.results.completed_samples, len(by_place))
    for reduction in log.reductions or []:
        compare(f"{name}: reductions of {reduction.scorer}", len(reduction.samples), len({id for id, _ in by_place}))
    reduced = [reduction.scorer for reduction in log.reductions or []]
    compare(f"{name}: reductions", reduced, [scorer.name for scorer in log.eval.scorers])
    for sample in log.samples:
        if (sample.id, sample.epoch) in by_place:
            what = f"{name}: {sample.id} epoch {sample.epoch}"
            compare_sample(what, sample, by_place[sample.id, sample.epoch])
    summaries = read_eval_log_sample_summaries(path)
    compare(f"{name}: summaries", sorted((summary.id, summary.epoch) for summary in summaries), sorted(by_place))
    for summary in (summary for summary in summaries if (summary.id, summary.epoch) in by_place):
        what = f"{name}: summary of {summary.id} epoch {summary.epoch}"
        compare(f"{what}: completed", summary.completed, True)
        compare_scores(what, summary.scores, by_place[summary.id, summary.epoch]["scores"], is_short=True)
    for id, epoch in set(by_place) & {(sample.id, sample.epoch) for sample in log.samples}:
        compare_sample(f"{name}: {id} epoch {epoch} alone", read_eval_log_sample(path, id, epoch), by_place[id, epoch])
    iterated = [(s.id, s.epoch) for s in read_eval_log_samples(path, all_samples_required=log.status == "success")]
    compare(f"{name}: iterated", sorted(iterated), sorted(by_place))
    frame = samples_df(path)
    compare(f"{name}: rows of samples_df", sorted(zip(frame["id"], frame["epoch"])), sorted(by_place))
    for _, row in [item for item in frame.iterrows() if (item[1]["id"], item[1]["epoch"]) in by_place]:
        for score, wanted in by_place[row["id"], row["epoch"]]["scores"].items():
            what = f"{name}: samples_df: {row['id']} epoch {row['epoch']}: {score}"
            found = row.get(f"score_{score}")
            if wanted["value"] is None:
                compare(f"{what} is missing", found is None or pandas.isna(found), True)
            else:
                compare(what, None if found is None or pandas.isna(found) else float(found), wanted["value"])
    frame = evals_df(path)
    compare(f"{name}: rows of evals_df", len(frame), 1)
    compare_field(f"{name}: evals_df", frame["task_name"][0], expected, "task")
    compare_field(f"{name}: evals_df", frame["model"][0], expected, "model")
    return len(by_place), sum(len(sample["scores"]) for sample in by_place.values())


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def check_archive(path):
    """The viewer's own needs: sizes in local headers, no comment, no name twice."""
    name = os.path.basename(path)
    with open(path, "rb") as file:
        content = file.read()
    compare(f"{name}: the end record is last", content[-22:-18], b"PK\x05\x06")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        compare(f"{name}: names twice", len(names), len(set(names)))
        compare(f"{name}: broken members", archive.testzip(), None)
        for info in archive.infolist():
            flags, packed, size = struct.unpack("<6xH10xII", content[info.header_offset : info.header_offset + 26])
            compare(f"{name}: {info.filename}: data descriptor", flags & 8, 0)
            compare(f"{name}: {info.filename}: sizes", (packed, size), (info.compress_size, info.file_size))
            compare(f"{name}: {info.filename}: time", info.date_time, (1980, 1, 1, 0, 0, 0))


def check_schema(path, schema):
    """Validates every member that the schema describes; missing scores are taken for 0, which it can express."""
    import jsonschema

    def fault(value, definition):
        rule = {**schema, **schema["$defs"][definition]} if definition else schema
        if definition:
            rule.pop("required", None)
            rule["required"] = schema["$defs"][definition].get("required", [])
        faults = list(jsonschema.Draft202012Validator(rule).iter_errors(value))
        where = f"{os.path.basename(path)}: {definition or 'log'}"
        return [f"{where}: {error.json_path}: {error.message[:300]}" for error in faults]

    def read(text):
        return json.loads(text, parse_constant=lambda constant: 0.0 if constant == "NaN" else sys.exit(constant))

    if path.endswith(".json"):
        with open(path) as file:
            wrong.extend(fault(read(file.read()), None))
        return
    for name, content in members_of(path).items():
        value = read(content)
        if name == "header.json":
            wrong.extend(fault(value, None))
        elif name == "_journal/start.json":
            wrong.extend(fault(value["eval"], "EvalSpec") + fault(value["plan"], "EvalPlan"))
        elif name == "reductions.json":
            wrong.extend(error for item in value for error in fault(item, "EvalSampleReductions"))
        elif name.startswith("samples/"):
            wrong.extend(fault(value, "EvalSample"))


def readings():
    """Ways of reading a log, each of which fails where something it needs is missing."""

    def sample(path):
        first = read_eval_log_sample_summaries(path)[0]
        return read_eval_log_sample(path, first.id, first.epoch)

    return {
        "header": lambda path: read_eval_log(path, header_only=True),
        "log": read_eval_log,
        "summaries": lambda path: len(read_eval_log_sample_summaries(path)) or sys.exit("no summaries"),
        "sample": sample,
        "samples": lambda path: len(list(read_eval_log_samples(path, all_samples_required=False))) or sys.exit("none"),
    }


def reads(path):
    """Names of the readings that succeed."""
    succeeded = []
    for name, read in readings().items():
        try:
            read(path)
            succeeded.append(name)
        except (Exception, SystemExit):
            pass
    return succeeded


def spoil(description, path, breaks, keeps=()):
    """Reads a spoiled copy: each reading in `breaks` has to fail, each in `keeps` has to succeed."""
    succeeded = reads(path)
    for reading in breaks:
        compare(f"{description}: `{reading}` fails", reading in succeeded, False)
    for reading in keeps:
        compare(f"{description}: `{reading}` succeeds", reading in succeeded, True)
    return 1


def write_archive(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, (bytes, str)) else json.dumps(content))
    return path


def without(value, *path):
    """A copy without the field at this path; a number picks an item of a list."""
    value = copy.deepcopy(value)
    place = value
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return value


def change_archive(path, folder):
    members = members_of(path)
    header, start = json.loads(members["header.json"]), json.loads(members["_journal/start.json"])
    sample_name = next(name for name in members if name.startswith("samples/"))
    sample = json.loads(members[sample_name])
    summary = json.loads(members["summaries.json"])
    score = next(iter(sample["scores"]))
    everything = list(readings())
    copy_path, count = os.path.join(folder, "2026-01-01T00-00-00+00-00_copy_x.eval"), 0

    def changed(**contents):
        contents = {f"{name}.json": content for name, content in contents.items()}
        return write_archive(copy_path, {**members, **contents})

    count += spoil("unspoiled copy", write_archive(copy_path, members), [], everything)
    count += spoil("stored", write_archive(copy_path, members, zipfile.ZIP_STORED), [], everything)
    for field in ("created", "task", "dataset", "model", "config"):
        spoiled = changed(header=without(header, "eval", field))
        count += spoil(f"without eval.{field}", spoiled, ["header", "log"])
    count += spoil("without eval", changed(header=without(header, "eval")), ["header", "log"])
    for field in ("name", "scorer"):
        spoiled = changed(header=without(header, "results", "scores", 0, field))
        count += spoil(f"without results.scores.{field}", spoiled, ["header", "log"])
    for field in ("name", "value"):
        spoiled = changed(header=without(header, "results", "scores", 0, "metrics", "mean", field))
        count += spoil(f"without metrics.mean.{field}", spoiled, ["header", "log"])
    # Of archives 0.3.285 checks no version, though of `.json` logs it does.
    count += spoil("version 3", changed(header={**header, "version": 3}), [], everything)
    unknown = {**members, "header.json": {**header, "unknown": 1}, sample_name: {**sample, "unknown": {"a": 1}}}
    count += spoil("unknown fields", write_archive(copy_path, unknown), [], everything)
    for field in (("id",), ("epoch",), ("input",), ("target",), ("scores", score, "value"),
                  ("output", "choices", 0, "message"), ("messages", 0, "content")):
        spoiled = write_archive(copy_path, {**members, sample_name: without(sample, *field)})
        count += spoil(f"sample without {'.'.join(map(str, field))}", spoiled, ["log", "sample", "samples"], ["header"])
    for field in ("id", "epoch", "input", "target"):
        spoiled = changed(summaries=[without(summary[0], field)] + summary[1:])
        count += spoil(f"summary without {field}", spoiled, ["summaries"], ["header", "log"])
    value = without(json.loads(members["reductions.json"]), 0, "samples", 0, "value")
    count += spoil("reduction without value", changed(reductions=value), ["header", "log"])
    no_list = {name: content for name, content in members.items() if not name.endswith("summaries.json")}
    journal = [name for name in members if name.startswith("_journal/")]
    count += spoil("without summaries.json", write_archive(copy_path, no_list), [], everything)
    no_list = {name: content for name, content in no_list.items() if name not in journal}
    count += spoil("without any summaries", write_archive(copy_path, no_list), ["summaries"], ["header", "log"])
    no_journal = {name: content for name, content in members.items() if name not in journal}
    count += spoil("without journal", write_archive(copy_path, no_journal), [], everything)
    begun = {name: content for name, content in members.items() if name not in ("header.json", "summaries.json")}
    count += spoil("in progress", write_archive(copy_path, begun), [], ["header", "log", "summaries", "sample"])
    compare("in progress: status", read_eval_log(copy_path, header_only=True).status, "started")
    for field in ("eval", "plan"):
        spoiled = {**begun, "_journal/start.json": without(start, field)}
        count += spoil(f"in progress without {field}", write_archive(copy_path, spoiled), ["header", "log"])
    odd = "q01 ü/ö \"x\" %2F"
    listed = [{**summary[0], "id": odd}]
    alone = copy.deepcopy(header)
    alone["eval"]["dataset"]["sample_ids"], alone["eval"]["config"]["epochs"] = [odd], 1
    spoiled = {"header.json": alone, "summaries.json": listed, f"samples/{odd}_epoch_1.json": {**sample, "id": odd}}
    count += spoil("ids with odd characters", write_archive(copy_path, spoiled), [], everything)
    return count


def change_json(path, folder):
    with open(path) as file:
        log = json.load(file)
    everything = list(readings())
    copy_path, count = os.path.join(folder, "2026-01-01T00-00-00+00-00_copy_x.json"), 0

    def changed(value):
        with open(copy_path, "w") as file:
            json.dump(value, file)
        return copy_path

    count += spoil("unspoiled json", changed(log), [], everything)
    samples = log["samples"]
    count += spoil("json: samples first", changed({"samples": samples, **without(log, "samples")}), ["header"])
    for field in ("version", "status", "eval", "plan", "stats"):
        count += spoil(f"json without {field}", changed(without(log, field)), ["header"])
    for field in ("created", "task", "dataset", "model", "config"):
        count += spoil(f"json without eval.{field}", changed(without(log, "eval", field)), ["header", "log"])
    count += spoil("json: version 3", changed({**log, "version": 3}), ["header", "log"])
    count += spoil("json: unknown fields", changed({"unknown": 1, **log}), [], everything)
    for field in ("id", "epoch", "input", "target"):
        spoiled = {**log, "samples": [without(samples[0], field)] + samples[1:]}
        count += spoil(f"json: sample without {field}", changed(spoiled), ["log"], ["header"])
    return count


with sys.stdin if arguments.expected == "-" else open(arguments.expected) as file:
    expected = json.load(file)
folder = os.path.abspath(arguments.folder)
listed = {os.path.basename(info.name): info for info in list_eval_logs(folder)}
compare("logs of the folder", sorted(listed), sorted(expected))
for name, info in listed.items():
    header = read_eval_log(os.path.join(folder, name), header_only=True)
    compare(f"{name}: id in its name", info.task_id, header.eval.task_id)
found = {"logs": len(listed), "samples": 0, "scores": 0, "validated": 0, "mutations": 0}
schema = None
if arguments.schema and os.path.exists(arguments.schema):
    try:
        import jsonschema  # noqa: F401

        with open(arguments.schema) as file:
            schema = json.load(file)
    except ImportError:
        pass
for name in sorted(set(listed) & set(expected)):
    path = os.path.join(folder, name)
    samples, scores = check_log(path, expected[name])
    found["samples"] += samples
    found["scores"] += scores
    if name.endswith(".eval"):
        check_archive(path)
    if schema:
        check_schema(path, schema)
        found["validated"] += 1
if arguments.mutations:
    for extension, change in ((".eval", change_archive), (".json", change_json)):
        path = next((os.path.join(folder, name) for name in sorted(listed) if name.endswith(extension)), None)
        with tempfile.TemporaryDirectory() as scratch:
            found["mutations"] += change(path, scratch) if path else 0
if wrong:
    print(json.dumps({**found, "wrong": len(wrong)}))
    sys.exit("\n".join(wrong[:40]))
print(json.dumps(found))
