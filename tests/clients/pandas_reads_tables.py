"""Reads a table of answers that was exported as CSV and as Parquet with pandas and with polars: both must be equal frames.

    python -m venv v && v/bin/pip install pandas pyarrow polars
    v/bin/python tests/clients/pandas_reads_tables.py answers.csv answers.parquet

Prints one line of JSON, the shape and the dtypes, when everything was as it should be, and fails otherwise.
"""
import json
import sys

import pandas as pd
import pandas.testing
import polars as pl
import polars.testing
import pyarrow.parquet as pq

csv_path, parquet_path = sys.argv[1:]

# What the file itself says: UTF-8 text, 64-bit numbers, times in UTC, and no column without missing values.
schema = pq.read_schema(parquet_path)
kinds = {"string", "double", "int64", "bool", "timestamp[us, tz=UTC]"}
assert {str(field.type) for field in schema} <= kinds, schema
assert all(field.nullable for field in schema), schema
names = schema.names
assert len(set(names)) == len(names), names
for name in ["group", "model", "evaluation_id", "system_prompt", "question", "response", "stop_reason", "score"]:
    assert name in names, name
assert str(schema.field("created_at").type) == "timestamp[us, tz=UTC]"
assert names[-1] == "key"

# pandas. CSV knows no types, so it is told those of the Parquet file; only an empty field is a missing value, not a
# response that reads `None`. pandas cannot tell an empty text from a missing one, in CSV.
frame = pd.read_parquet(parquet_path, dtype_backend="numpy_nullable")
times = [name for name in names if str(frame[name].dtype).startswith("datetime")]
types = {name: dtype for name, dtype in frame.dtypes.items() if name not in times}
told = pd.read_csv(
    csv_path,
    dtype=types,
    parse_dates=times,
    keep_default_na=False,
    na_values=[""],
    encoding="utf-8",
)
for name in times:
    told[name] = told[name].astype(frame[name].dtype)
texts = [name for name in names if str(frame[name].dtype) == "string"]
pandas.testing.assert_frame_equal(told, frame.assign(**{name: frame[name].replace("", pd.NA) for name in texts}))

# Without being told anything the same rows and columns come out, and scores are numbers.
plain = pd.read_csv(csv_path, low_memory=False)
assert plain.shape == frame.shape and list(plain.columns) == names
if frame["score"].notna().any():
    assert plain["score"].dtype == "float64", plain["score"].dtype
    means = plain.groupby("group")["score"].mean(), frame.groupby("group")["score"].mean().astype("float64")
    pandas.testing.assert_series_equal(*means, check_index_type=False, check_names=False)

# polars tells an empty text from a missing one.
columns = pl.read_parquet(parquet_path)
texts_of_times = {name: pl.String for name in times}
read = pl.read_csv(csv_path, schema_overrides=dict(columns.schema) | texts_of_times)
read = read.with_columns(pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC") for name in times)
polars.testing.assert_frame_equal(read, columns, check_exact=True)
assert columns.height == len(frame)

print(
    json.dumps(
        {
            "shape": frame.shape,
            "pandas": {name: str(dtype) for name, dtype in pd.read_parquet(parquet_path).dtypes.items()},
            "polars": {name: str(dtype) for name, dtype in columns.schema.items()},
            "missing": {name: int(count) for name, count in frame.isna().sum().items() if count},
            "row_groups": pq.ParquetFile(parquet_path).num_row_groups,
        }
    )
)
