"""One function over all batches of a set, by one process, several, or several machines; the result is the same to the byte.

    serial    this process; memory does not grow with the set
    datasets  processes of this machine, by `datasets.Dataset.map`
    ray       a Ray cluster, by Ray Data; the set passes through parquet files that all machines must see (`spill`)

The function takes a batch and returns one with a row for each row. It must depend on its rows alone, not on where batches are cut:
then it does not matter who gets which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vr1kit.formats.columns import ROWS, SCHEMA
from vr1kit.records import DataError

ENGINES = ("serial", "datasets", "ray")
Function = Callable[[pa.RecordBatch], pa.RecordBatch]


def map_batches(
    batches: Iterator[pa.RecordBatch], function: Function, engine: str = "serial", processes: int = 1, spill: str | None = None
) -> Iterator[pa.RecordBatch]:
    """`function` of each batch, in order. `processes` is for the engines that have several; `spill` is a folder for what passes between
    them, the system's temporary one by default.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "serial":
        yield from map(function, batches)
        return
    with tempfile.TemporaryDirectory(prefix="vr1kit_", dir=spill) as folder:
        run = _map_datasets if engine == "datasets" else _map_ray
        yield from run(batches, function, processes, Path(folder))


class _OnTable:
    """The function on a table, as both libraries hand over rows; a class, since it is pickled."""

    def __init__(self, function: Function):
        self.function = function

    def __call__(self, table: pa.Table) -> pa.Table:
        table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
        return pa.Table.from_batches([self.function(batch) for batch in table.to_batches()])


class _OnFiles(_OnTable):
    """The same on a table of names of parquet files. `ray.data.read_parquet` would look for them by threads that race for an import."""

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.concat_tables(super(_OnFiles, self).__call__(pq.ParquetFile(name).read()) for name in table["file"].to_pylist())


def _map_datasets(
    batches: Iterator[pa.RecordBatch], function: Function, processes: int, folder: Path
) -> Iterator[pa.RecordBatch]:
    import datasets

    source = folder / "in.arrow"
    with pa.OSFile(str(source), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    dataset = datasets.Dataset.from_file(str(source)).with_format("arrow")
    if not len(dataset):
        return
    schema = function(pa.RecordBatch.from_pylist([], SCHEMA)).schema
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        mapped = dataset.map(
            _OnTable(function), batched=True, batch_size=ROWS, num_proc=processes if processes > 1 else None,
            features=datasets.Features.from_arrow_schema(schema), cache_file_name=str(folder / "out.arrow"), new_fingerprint="vr1kit",
        )  # fmt: skip
    finally:
        if shown:
            datasets.enable_progress_bars()
    for table in mapped.with_format("arrow").iter(ROWS):
        yield from table.cast(schema).combine_chunks().to_batches()


def _map_ray(batches: Iterator[pa.RecordBatch], function: Function, processes: int, folder: Path) -> Iterator[pa.RecordBatch]:
    try:
        import ray
    except ImportError:
        raise DataError("the engine 'ray' needs Ray Data; install it with: pip install 'vr1kit[ray]'") from None
    files = []
    for k, batch in enumerate(batches):
        files.append(str(folder / f"{k:06}.parquet"))
        pq.write_table(pa.Table.from_batches([batch]), files[-1])
    if not files:
        return
    schema = function(pa.RecordBatch.from_pylist([], SCHEMA)).schema
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        names = ray.data.from_items([{"file": file} for file in files])
        rows = names.map_batches(_OnFiles(function), batch_format="pyarrow", batch_size=1)
        for table in rows.iter_batches(batch_size=ROWS, batch_format="pyarrow"):
            yield from table.select(schema.names).cast(schema).combine_chunks().to_batches()
    finally:
        if started:
            ray.shutdown()
