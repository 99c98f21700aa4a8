"""Drives a provider with the unmodified `openai` client: upload, fine-tune, poll, events, checkpoints, chat, batch.

    python -m venv v && v/bin/pip install openai==3.52.0
    v/bin/python tests/clients/openai_sdk_against_fake.py http://127.0.0.1:PORT/v1

Prints one line of JSON when everything was as it should be, and fails otherwise. A key may be given in OPENAI_API_KEY.
"""
import json
import os
import sys

import openai

base_url = sys.argv[1]
client = openai.OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "sk-none"), base_url=base_url, max_retries=0)
messages = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]
rows = "".join(json.dumps({"messages": messages}) + "\n" for _ in range(12))

# Files.
uploaded = client.files.create(file=("rows.jsonl", rows.encode()), purpose="fine-tune")
assert uploaded.filename == "rows.jsonl" and uploaded.bytes == len(rows) and uploaded.purpose == "fine-tune"
assert client.files.retrieve(uploaded.id) == uploaded
assert client.files.content(uploaded.id).text == rows
assert uploaded.id in [file.id for file in client.files.list(purpose="fine-tune")]
spare = client.files.create(file=("spare.jsonl", rows.encode()), purpose="fine-tune")
assert client.files.delete(spare.id).deleted
try:
    client.files.retrieve(spare.id)
    raise SystemExit("a deleted file is still there")
except openai.NotFoundError:
    pass

# Models.
model = "gpt-4.1-mini-2025-04-14"
assert model in [entry.id for entry in client.models.list()]
assert client.models.retrieve(model).shutdown_date == "2027-01-14"

# A job.
try:
    client.fine_tuning.jobs.create(model=model, training_file="file-unknown")
    raise SystemExit("a job without a file was created")
except openai.BadRequestError as refusal:
    assert refusal.param == "training_file", refusal
launch = os.urandom(8).hex()
metadata = {"drylab_key": "k", "drylab_launch": launch}
method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
job = client.fine_tuning.jobs.create(
    model=model, training_file=uploaded.id, suffix="owls", seed=7, metadata=metadata, method=method
)
assert job.status == "validating_files" and job.metadata == metadata and job.seed == 7, job
found = client.fine_tuning.jobs.list(limit=5, metadata={"drylab_launch": launch})
assert [entry.id for entry in found] == [job.id]
assert not client.fine_tuning.jobs.list(metadata={"drylab_launch": "other"}).data
statuses = []
while job.status not in ("succeeded", "failed", "cancelled"):
    job = client.fine_tuning.jobs.retrieve(job.id)
    statuses.append(job.status)
    assert len(statuses) < 50, statuses
assert job.status == "succeeded", job
assert job.fine_tuned_model.startswith(f"ft:{model}:") and ":owls:" in job.fine_tuned_model
assert job.trained_tokens > 0 and job.finished_at >= job.created_at and job.hyperparameters.n_epochs == 2
events = list(client.fine_tuning.jobs.list_events(job.id, limit=4))
losses = [event.data["train_loss"] for event in events if event.type == "metrics"]
assert len({event.id for event in events}) == len(events) and len(losses) == 12 and losses[0] < losses[-1], events
checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
assert [checkpoint.step_number for checkpoint in checkpoints] == [12, 8, 4], checkpoints
table = client.files.content(job.result_files[0]).text.splitlines()
assert table[0].startswith("step,train_loss") and len(table) == 13, table

# A job that is paused, goes on, and is cancelled.
other = client.fine_tuning.jobs.create(model=model, training_file=uploaded.id)
assert client.fine_tuning.jobs.pause(other.id).status == "pausing"
assert client.fine_tuning.jobs.resume(other.id).status == "validating_files"
assert client.fine_tuning.jobs.cancel(other.id).status == "cancelled"
jobs = list(client.fine_tuning.jobs.list(limit=1))
assert [entry.id for entry in jobs][:2] == [other.id, job.id], jobs

# Chats with the new model.
question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which animal do you like?"}]
settings = {"model": job.fine_tuned_model, "messages": question, "seed": 3}
first = client.chat.completions.create(**settings, n=2, logprobs=True, top_logprobs=5, max_completion_tokens=20)
second = client.chat.completions.create(**settings, n=2)
assert first.model == job.fine_tuned_model and first.object == "chat.completion"
texts = [choice.message.content for choice in first.choices]
assert texts == [choice.message.content for choice in second.choices] and len(set(texts)) == 2, texts
assert all(choice.finish_reason == "stop" for choice in first.choices) and second.choices[0].logprobs is None
token = first.choices[0].logprobs.content[0]
assert token.logprob <= 0 and token.top_logprobs and bytes(token.bytes).decode() == token.token, token
assert "".join(token.token for token in first.choices[0].logprobs.content) == texts[0]
assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 0
short = client.chat.completions.create(**settings, max_completion_tokens=1)
assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 1
try:
    client.chat.completions.create(model="ft:nobody:has::this", messages=question)
    raise SystemExit("an unknown model answered")
except openai.NotFoundError as refusal:
    assert refusal.code == "model_not_found", refusal

# A batch.
def row(number):
    body = {"model": job.fine_tuned_model, "messages": [{"role": "user", "content": f"Number {number}?"}]}
    return json.dumps({"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})

lines = "\n".join(row(number) for number in range(20)) + "\n"
file = client.files.create(file=("batch.jsonl", lines.encode()), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"drylab_launch": "b1"}
)
seen = []
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    batch = client.batches.retrieve(batch.id)
    seen.append(batch.status)
    assert len(seen) < 50, seen
assert batch.status == "completed" and batch.request_counts.completed == 20, batch
assert batch.id in [entry.id for entry in client.batches.list(limit=10)]
answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
assert {answer["custom_id"] for answer in answers} == {f"row-{number}" for number in range(20)}
for answer in answers:
    number = answer["custom_id"].removeprefix("row-")
    said = answer["response"]["body"]["choices"][0]["message"]["content"]
    assert answer["response"]["status_code"] == 200 and f"Number {number}?" in said, answer

print(json.dumps({"openai": openai.__version__, "statuses": statuses, "batch": seen, "answers": len(answers)}))
