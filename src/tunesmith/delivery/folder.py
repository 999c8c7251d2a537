"""The Run folder from its first file to its last: begun, saved into, finished."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_model as save_tensors

from tunesmith.assemble.job import Job, Tell, with_assumed_head
from tunesmith.assemble.opened import network_run
from tunesmith.assemble.thresholds import target_of
from tunesmith.data.encoders.text import TextEncoder
from tunesmith.delivery import card, card_facts, card_metadata, drift
from tunesmith.delivery.exports import keras, peft, plain, sentence_transformers, transformers
from tunesmith.delivery.reporting import page
from tunesmith.delivery.scores import FOLDS_FILE
from tunesmith.errors import DataError, MachineError
from tunesmith.files import remove_folder, require_space, size, sweep, whole_folder, write_text
from tunesmith.models.edits import lora
from tunesmith.models.loaders.keras import KerasNetwork
from tunesmith.models.tunable import Tunable
from tunesmith.recipe import file as recipe_file
from tunesmith.run import Run, new_run
from tunesmith.training import checkpoint, phases
from tunesmith.training.observers import EventLog
from tunesmith.training.state import State

LANGUAGE_ROWS = 1000
"""So many training texts tell which language they are in."""
PACKAGES = ("tunesmith", "torch", "transformers", "numpy", "pyarrow", "scikit-learn", "safetensors", "tokenizers")


def begin(job: Job, out: Path | str | None) -> Run:
    """Make the folder and write what is known before anything is measured; nothing is left if the disk is too small."""
    run = Run(Path(job.machine.agree(str(new_run(out, job.recipe.name).path) if job.machine.first else None)))
    require_space(run.path, needed_bytes(job), "this run")
    if job.machine.first:
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            sweep(run.path)
            run.write("environment.json", environment(job))
            write_text(run.path / "recipe.toml", recipe_file.dump(job.recipe, job.reasons))
            _write_split(job, run)
            run.write("ledger.json", job.rows.ledger.as_json())
            run.write("data.json", fingerprint(job))
        except OSError as error:
            raise MachineError(f"cannot write: {error.strerror or error}", where=str(run.path)) from None
    job.machine.gather(None)
    return run


def reopen(job: Job, run: Run) -> Run:
    """Check that the rows are those that the run began with."""
    stored, now = run.read("data.json"), fingerprint(job)
    whats = {
        "rows": "other rows",
        "split": "another split",
        "model": "other weights to start from",
        "unlabelled": "other rows without a target",
    }
    for key, what in whats.items():
        if stored[key] != now[key]:
            raise DataError(f"cannot continue: there are {what} than when the run began", where=str(run.path))
    if job.machine.first:
        sweep(run.path)
    return run


def needed_bytes(job: Job) -> int:
    """Disk that the run needs at its peak: the model twice, and three checkpoints (the oldest goes when the newest is
    whole) of what moves, its two moments and the best weights."""
    net = with_assumed_head(job).net()
    names = phases.moving(net, job.plan)
    model = sum(p.numel() * 4 for p in job.pretrained.module.parameters())
    moved = sum(p.numel() * 4 for name, p in net.named_parameters() if name in names)
    return 3 * (3 * moved + moved) + 2 * model + 10_000_000


def fingerprint(job: Job) -> dict[str, Any]:
    """What a resume must find again."""
    rows = job.rows
    return {
        "source": [{"name": name, "rows": count} for name, count in rows.table.origin],
        "rows": rows.table.fingerprint([*rows.inputs, *rows.columns]),
        "split": {part: len(getattr(rows.split, part)) for part in ("train", "valid", "test")}
        | {"how": rows.split.how},
        "modality": rows.modality,
        "inputs": list(rows.inputs),
        "target": list(rows.columns),
        "model": job.pretrained.origin.digest,
        "unlabelled": None if rows.unlabelled is None else rows.unlabelled.fingerprint(rows.inputs),
    }


def environment(job: Job) -> dict[str, Any]:
    """Versions, hardware and code version: what a figure depends on beside the recipe."""
    device = job.machine.device
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in (*PACKAGES, *["keras"] * ("keras" in sys.modules))},
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": job.machine.precision,
        "ranks": job.machine.world,
        "command": sys.argv,
    }


def newest_checkpoint(job: Job, run: Run, tell: Tell) -> Path | None:
    """The newest checkpoint that verifies, the same on every rank; says so when a newer one is damaged."""
    found = checkpoint.newest(run.checkpoints) if job.machine.first else None
    all_of_them = sorted(run.checkpoints.glob("step-*")) if job.machine.first else []
    if all_of_them and found != all_of_them[-1]:
        tell(f"{all_of_them[-1]} is damaged; continuing from {found or 'the beginning'}")
    if job.machine.first:
        checkpoint.forget_newer(run.checkpoints, found)
    agreed = job.machine.agree(str(found) if found else None)
    return Path(agreed) if agreed else None


def cut_events(run: Run, num_bytes: int) -> None:
    """Cut events.jsonl to its length at the checkpoint, without one (0) to the lines before the first step: what came
    later happens again."""
    path = run.path / "events.jsonl"
    if not path.exists():
        return
    if not num_bytes:
        lines = path.read_bytes().splitlines(keepends=True)
        num_bytes = len(
            b"".join(line for line in lines[:1] if line.startswith(b'{"event": "prepare"') and line[-1:] == b"\n")
        )
    if path.stat().st_size > num_bytes:
        os.truncate(path, num_bytes)


def save_checkpoint(job: Job, run: Run, state: State, log: EventLog) -> None:
    """Write a checkpoint on the first rank; the others wait."""
    if job.machine.first:
        log.line("save", step=state.step)
        state.events_bytes = log.num_bytes
        checkpoint.save(state, run.checkpoints)
    job.machine.gather(None)


def save_model(job: Job, run: Run, net: Tunable) -> None:
    """Write tunesmith.safetensors (the whole net) and model/ (a library's own format), in the target's own unit;
    adapters into adapter/ first, then they become part of the weights."""
    target = job.rows.target
    if (target.mean, target.std) != (0.0, 1.0):
        net.fold_scale(target.mean, target.std)
    if job.machine.first:
        net.to("cpu")
        if lora.adapters(job.pretrained.body):
            if not net.head_path:  # Its library can load the base that an adapter stands on; nobody else's can.
                with whole_folder(run.path / "adapter") as temporary:
                    peft.write(net, job.pretrained, target.labels, job.recipe.model.trust, temporary)
            lora.merge(job.pretrained)
        _write_model(job, run, net)
    job.machine.gather(None)


def replace_model(job: Job, run: Run, net: Tunable) -> None:
    """Write the model again, whose body has been changed since it was saved; an adapter would not be that change."""
    if job.machine.first:
        if (run.path / "adapter").exists():
            remove_folder(run.path / "adapter")
        _write_model(job, run, net)
    job.machine.gather(None)


def _write_model(job: Job, run: Run, net: Tunable) -> None:
    with whole_folder(run.model) as temporary:
        _export(job, net, temporary)
    with whole_folder(run.path / ".weights") as temporary:
        save_tensors(net, str(temporary / run.weights.name))
    if net.head_path:
        _write_network(job, run)
    (run.path / ".weights" / run.weights.name).chmod(0o644)
    (run.path / ".weights" / run.weights.name).replace(run.weights)
    (run.path / ".weights").rmdir()


def _export(job: Job, net: Tunable, folder: Path) -> None:
    """Write the model in the format of its library: of a network that is none of transformers, a plain state dict."""
    if net.head_path:
        plain.write(net, folder)
        if isinstance(net.body, KerasNetwork):
            keras.write(net.body, net.head, job.rows.task.name, job.encoder, folder)
    elif net.own:
        transformers.write(net, job.pretrained, job.rows.target, job.encoder, folder)
    elif isinstance(job.encoder, TextEncoder):
        sentence_transformers.write(net, job.pretrained, job.rows.target, job.encoder.max_length, folder)
    else:
        transformers.write_body(net, job.pretrained, folder)


def _write_network(job: Job, run: Run) -> None:
    """What a network that is no transformers folder is built from again."""
    encoder = job.encoder.as_json()
    assert encoder is not None
    made = {"name": job.pretrained.origin.name, "options": job.recipe.model.options, "trust": job.recipe.model.trust}
    earlier = network_run(job.recipe.model.name)
    model = earlier.network["model"] if earlier is not None else made
    kept = {"model": model, "layer": job.pretrained.head_path, "encoder": encoder}
    if isinstance(job.pretrained.module, KerasNetwork):
        kept["architecture"] = job.pretrained.module.architecture
    run.write("network.json", kept)


def finish(job: Job, run: Run, tell: Tell) -> None:
    """Write the cards, drop what only a resume needs, push if asked, and say what to do next."""
    if not job.machine.first:
        return
    counts = {part: f"{len(getattr(job.rows.split, part))} rows" for part in ("train", "valid", "test")}
    if job.rows.cross_validated:
        counts["valid"] = f"{len(job.rows.split.train)} rows, each predicted by a model that did not train on it"
    if folds := card.num_folds(run.scores):
        counts["test"] = (
            f"mean of {folds} folds, each judged by a model that trained on others; this one trained on all"
        )
    _write_cards(job, run, counts)
    (run.path / FOLDS_FILE).unlink(missing_ok=True)
    for best in run.checkpoints.glob("best-*"):
        best.unlink()
    for old in sorted(run.checkpoints.glob("step-*"))[:-1]:
        remove_folder(old)
    if job.recipe.deliver.report != "none":
        _report(run, job.recipe.deliver.report, tell)
    tell(f"saved: {run.path} ({size(sum(f.stat().st_size for f in run.path.rglob('*') if f.is_file()))})")
    if job.recipe.deliver.push:
        push(run, job.recipe.deliver.push, tell)


def _write_cards(job: Job, run: Run, counts: dict[str, str]) -> None:
    recipe, task, target, modality = job.recipe, job.rows.task, target_of(run), job.rows.modality
    texts: list[str] = []
    if modality == "text" and job.rows.table.arrow is not None:
        some = job.rows.table.take(job.rows.split.train[:LANGUAGE_ROWS])
        texts = [str(text) for name in job.rows.inputs for text in some.column(name).to_pylist()]
    base, language = card_metadata.base_of(recipe, job.pretrained.origin.folder), card_metadata.language_of(texts)
    library = card.library_of(run, modality)
    metadata = card_metadata.front_matter(
        run, recipe, base, task=task, modality=modality, library=library, language=language
    )
    facts = card_facts.facts(run, recipe, target, base, language)
    card.write(
        run,
        recipe,
        task,
        target,
        counts,
        modality,
        model=base.name,
        metadata=metadata,
        facts=facts,
        forgot=drift.in_words(run.drift),
    )


def _report(run: Run, language: str, tell: Tell) -> None:
    """Write the report; a failure loses nothing of the run, and says how to try again."""
    try:
        page.write_page(run, language=language)
    except Exception as error:
        again = f"the run is complete; try again: tunesmith report {run.path}"
        tell(f"the report could not be written ({type(error).__name__}: {error}); {again}")


def push(run: Run, repository: str, tell: Tell) -> None:
    """Upload model/ to the hub; a failure loses nothing and says how to try again."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True, private=True)
        url = api.upload_folder(repo_id=repository, folder_path=run.model)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise MachineError(
            f"the run is complete, but the hub did not take the upload: {reason}",
            where=repository,
            remedy=f"log in (hf auth login) and: hf upload {repository} {run.model}",
        ) from None
    tell(f"pushed to {url}")


def forget_if_empty(run: Run, *, resumed: bool) -> None:
    """After an error of the person's before anything was trained, leave no half-made folder behind."""
    begun = (*run.checkpoints.glob("*"), *run.folds.glob("*"), *run.seeds.glob("*"))
    if not resumed and not begun and not run.model.exists():
        shutil.rmtree(run.path, ignore_errors=True)


def _write_split(job: Job, run: Run) -> None:
    ids, split = job.rows.table.ids(), job.rows.split
    parts = [(part, ids[getattr(split, part)]) for part in ("train", "valid", "test")]
    columns = {
        "id": pa.array([name for _, some in parts for name in some.tolist()]),
        "split": pa.array([part for part, some in parts for _ in range(len(some))]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), run.path / "split.parquet")


def _commit() -> str | None:
    """The commit of this code when it runs from a checkout."""
    here = Path(__file__).resolve().parent
    try:
        result = subprocess.run(
            ["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
