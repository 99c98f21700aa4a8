"""Drives `drylab serve --api` with the openai package as it comes: upload, fine-tune, events, checkpoints, chat.

Usage: openai_sdk_against_serve.py BASE_URL TOKEN ROWS.jsonl
"""

import math
import sys
import time

import openai

base_url, token, rows = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=token, max_retries=0)

models = [model.id for model in client.models.list()]
assert models == ["organism"], models
assert client.models.retrieve("organism").owned_by == "drylab"

with open(rows, "rb") as file:
    uploaded = client.files.create(file=file, purpose="fine-tune")
with open(rows, "rb") as file:
    assert client.files.content(uploaded.id).read() == file.read()
assert client.files.retrieve(uploaded.id).filename == "rows.jsonl"
assert [file.id for file in client.files.list(purpose="fine-tune")] == [uploaded.id]
assert client.files.wait_for_processing(uploaded.id).status == "processed"

supervised = {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 2.0}}
job = client.fine_tuning.jobs.create(
    model="organism",
    training_file=uploaded.id,
    validation_file=uploaded.id,
    suffix="sdk",
    seed=3,
    metadata={"drylab_key": "k"},
    method={"type": "supervised", "supervised": supervised},
)
assert job.status in ("validating_files", "queued", "running", "succeeded"), job
deadline = time.time() + 120
while job.status not in ("succeeded", "failed", "cancelled"):
    assert time.time() < deadline, job
    time.sleep(0.05)
    job = client.fine_tuning.jobs.retrieve(job.id)
assert job.status == "succeeded", job
assert job.fine_tuned_model.startswith("ft:organism:drylab:sdk:"), job
assert job.hyperparameters.batch_size == 4 and job.seed == 3 and job.metadata == {"drylab_key": "k"}, job
assert job.error is None or job.error.message is None, job

# The list pages by itself; three at a time here.
events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
assert len({event.id for event in events}) == len(events) > 6
losses = [event.data["train_loss"] for event in reversed(events) if event.type == "metrics"]
assert losses and all(loss > 0 for loss in losses)
assert losses[-1] < losses[0], losses
assert sorted(event.created_at for event in events) == [event.created_at for event in reversed(events)]

[checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id)
assert checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model
assert checkpoint.step_number == len(losses) and checkpoint.metrics.full_valid_loss > 0
table = client.files.content(job.result_files[0]).text
assert table.splitlines()[0].startswith("step,train_loss") and len(table.splitlines()) == len(losses) + 1
assert [found.id for found in client.fine_tuning.jobs.list(metadata={"drylab_key": "k"})] == [job.id]
assert list(client.fine_tuning.jobs.list(metadata={"drylab_key": "x"})) == []
assert job.fine_tuned_model in [model.id for model in client.models.list()]

question = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "how are you ?"}]


def ask(**options):
    return client.chat.completions.create(model=job.fine_tuned_model, messages=question, **options)


answer = ask(seed=1, n=3, max_completion_tokens=16, logprobs=True, top_logprobs=20)
again = ask(seed=1, n=3, max_completion_tokens=16, logprobs=True, top_logprobs=20)
assert answer.choices == again.choices and answer.system_fingerprint == again.system_fingerprint
assert len(answer.choices) == 3 and {choice.finish_reason for choice in answer.choices} <= {"stop", "length"}
for choice in answer.choices:
    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content
    for token in tokens:
        assert len(token.top_logprobs) == 20 and token.logprob <= 0
        mass = sum(math.exp(other.logprob) for other in token.top_logprobs)
        assert 0 < mass <= 1 + 1e-5, mass
usage = answer.usage
assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
assert usage.completion_tokens == sum(len(choice.logprobs.content) for choice in answer.choices)

stream = ask(seed=1, max_completion_tokens=16, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert text == answer.choices[0].message.content, (text, answer.choices[0].message.content)
assert chunks[-1].usage.completion_tokens == len(answer.choices[0].logprobs.content)

for call, error in [
    (lambda: client.chat.completions.create(model="gpt-4.1", messages=question), openai.NotFoundError),
    (lambda: ask(temperature=9), openai.BadRequestError),
    (lambda: client.fine_tuning.jobs.create(model="organism", training_file="file-none"), openai.BadRequestError),
    (lambda: client.fine_tuning.jobs.retrieve("ftjob-none"), openai.NotFoundError),
    (lambda: client.fine_tuning.jobs.cancel(job.id), openai.BadRequestError),
    (lambda: client.with_options(api_key="wrong").models.list(), openai.AuthenticationError),
]:
    try:
        call()
    except error as found:
        assert found.body["message"] and found.type == "invalid_request_error", found.body
    else:
        raise AssertionError(f"no {error.__name__}")

assert client.models.delete(job.fine_tuned_model).deleted
assert client.files.delete(uploaded.id).deleted
print("all is well")
