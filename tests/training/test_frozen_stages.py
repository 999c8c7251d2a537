"""Frozen means frozen, for every strategy, in every phase, and after a resume; what is thawed moves again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tunesmith import pipeline, plugins
from tunesmith.assemble.job import Job
from tunesmith.data.batch import MAIN, Batch
from tunesmith.models.loaders import transformers
from tunesmith.models.loaders.processors import CALLING
from tunesmith.models.pretrained import Origin, Pretrained
from tunesmith.models.stages import find_stages
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.objective import Loss
from tunesmith.strategies.plan import Phase, Plan, Rule, assign
from tunesmith.training import checkpoint, machine, phases
from tunesmith.training.loop import Pace, train_phase
from tunesmith.training.optimizers import adamw
from tunesmith.training.state import State

LENGTH = 12
OPTIONS = {
    "last": [{"stages": 1}],
    "stages": [{"train": ["block.0"]}, {"train": ["stem", "block.1"]}],
    "unfreeze": [{}, {"stages_per_phase": 2, "final": 0.25}],
    "lora": [*({"method": method} for method in ("lora", "rslora", "dora", "ia3", "vera", "oft")), {"last": 1}],
}
"""What each strategy is tried with; any other, and a new one, with its defaults."""
CASES = [
    pytest.param({"name": name, **options}, id=" ".join([name, *map(str, options.values())]))
    for name in plugins.names("strategy")
    for options in OPTIONS.get(name, [{}])
]
RESUMED = [
    pytest.param(case.values[0], stop, id=f"{case.id}-{stop}")
    for case in CASES
    for stop in (2, 7)
    if stop == 2 or case.values[0]["name"] in ("unfreeze", "probe_then_full")  # Those of several phases.
]
CLIP = Job.clip


class Watch:
    """Follows a run: in each step, modes and gradients; after it, the optimizer; after a phase, the frozen values."""

    def __init__(self, job, state, monkeypatch):
        self.job, self.state, self.phases, self.steps = job, state, set(), 0
        self.start = self.values()
        monkeypatch.setattr(Job, "clip", lambda job: lambda parameters: self.in_step(parameters, CLIP(job)))

    def values(self):
        return {name: tensor.detach().clone() for name, tensor in self.state.net.state_dict(keep_vars=True).items()}

    def moving(self):
        """The names of the parameters that the phase moves, of those that the head reads."""
        net, phase = self.state.net, self.job.plan.phases[self.state.phase]
        rules, names = assign(phase.rules, net.kinds()), {id(p): name for name, p in net.named_parameters()}
        found = {names[id(p)] for address, p in net.address().items() if rules[address].lr is not None}
        return {name for name in found if "pooler" not in name}

    def in_step(self, parameters, clip):
        net, moving = self.state.net, self.moving()
        for name, parameter in net.named_parameters():
            assert parameter.requires_grad == (name in moving), name
            assert (parameter.grad is not None) == (name in moving), name
        modules = dict(net.named_modules())
        for stage in net.stages[:-2] + net.stages[-1:]:  # The head of this job does not read the neck.
            trains = bool(moving & set(stage.parameters))
            inner = [m for path in stage.modules for m in modules[path].modules()]
            dropouts = [module for module in inner if isinstance(module, nn.Dropout)]
            assert dropouts, "nothing would be seen without a dropout"
            if not trains:
                assert not any(module.training for module in inner), stage.name
            elif moving >= set(stage.parameters):
                assert all(module.training for module in dropouts), stage.name
        self.steps += 1
        clip(parameters)

    def follow(self, events, stop=None):
        """Run to the end, or until after the step `stop`."""
        last = before = self.values()
        phase = self.state.phase
        for event in events:
            if self.state.phase != phase:
                before, phase = last, self.state.phase
            self.phases.add(phase)
            moving, names = self.moving(), {p: name for name, p in self.state.net.named_parameters()}
            assert {names[p] for p in self.state.optimizer.state} == moving
            last = self.values()
            for name, tensor in last.items():
                assert name in moving or torch.equal(tensor, before[name]), name
            if event.step == stop:
                break


def new_job(job_of, strategy, **train):
    train = {"length": f"{LENGTH} steps", "warmup": "never", "cache": "off", **train}
    return job_of(strategy=strategy, train=train)


def begin(job, saved=None):
    net, feed = job.net(), job.feed(job.rows.split.train)
    state = State(net)
    if saved is not None:
        checkpoint.resume_counters(state, saved)
    return state, pipeline.steps(job, state, feed, job.cadence(feed.steps_per_epoch), saved, tell=list)


@pytest.mark.parametrize("strategy", CASES)
def test_frozen_means_frozen_in_every_phase(strategy, job_of, monkeypatch):
    job = new_job(job_of, strategy)
    state, events = begin(job)
    watch = Watch(job, state, monkeypatch)
    watch.follow(events)
    assert watch.steps == LENGTH and watch.phases == set(range(len(job.plan.phases)))
    ended = watch.values()
    changed = {name for name in ended if not torch.equal(ended[name], watch.start[name])}
    expected = {name for name in state.moved if "pooler" not in name}
    assert changed == expected, "all that a phase moves has moved, and nothing else"


@pytest.mark.parametrize(("strategy", "stop"), RESUMED)
def test_frozen_stays_frozen_after_a_resume_which_ends_in_the_same_weights(
    strategy, stop, job_of, monkeypatch, tmp_path
):
    job = new_job(job_of, strategy)
    state, events = begin(job)
    watch = Watch(job, state, monkeypatch)
    watch.follow(events, stop)
    saved = checkpoint.save(state, tmp_path)
    watch.follow(events)
    whole = watch.values()
    job = new_job(job_of, strategy)
    state, events = begin(job, saved)
    watch = Watch(job, state, monkeypatch)
    # What the checkpoint holds is in place once the first step is made; frozen values stay what they are then.
    assert next(events).step == stop + 1
    watch.follow(events)
    resumed = watch.values()
    assert state.step == LENGTH and resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


THAW = Plan((
    Phase("all", (Rule("*", 1.0),), 0.25),
    Phase("top", (Rule("head/*", 1.0), Rule("block.1/*", 1.0), Rule("*", None)), 0.25),
    Phase("bottom", (Rule("head/*", 1.0), Rule("stem/*", 1.0), Rule("block.0/*", 1.0), Rule("*", None)), 0.25),
    Phase("again", (Rule("*", 0.5),), 0.25),
))  # fmt: skip


@pytest.mark.parametrize("carry", [False, True])
def test_stages_that_are_frozen_again_and_thawed_again(carry, job_of, monkeypatch):
    job = new_job(job_of, "full")
    monkeypatch.setattr(Job, "plan", replace(THAW, carry=carry))
    state, events = begin(job)
    watch = Watch(job, state, monkeypatch)
    watch.follow(events)
    assert watch.phases == {0, 1, 2, 3}
    ages = {int(values["step"]) for values in state.optimizer.state.values()}
    # The head moved in all of the 12 steps; a stage forgets what it knew while it was frozen.
    assert ages == ({3, 6, 12} if carry else {3})


def by_hand(module, body, run, **fields):
    """A Pretrained with the model's own head."""
    stages = find_stages(body, run)
    return Pretrained(module, body, stages, 8, None, 64, Origin("by hand", Path(), ""), "", (), True, CALLING, **fields)


def objective(net, batch):
    outputs = net(batch.inputs[MAIN])
    loss = nn.functional.cross_entropy(outputs, batch.target, reduction="sum")
    return Loss(loss, torch.tensor(float(len(batch.target))))


def trained(net, rules, batch, num_steps=3):
    """Train a phase of these rules on the same batch; the State."""
    phase = Phase("some", rules)
    phases.open_phase(net, phase)
    phases.freeze_unreached(net, objective, batch)
    state = State(net, adamw(phases.groups(net, phase)))
    pace = Pace(num_steps, lambda _step: 1e-2, seed=0)
    list(train_phase(state, "some", lambda _step: ([batch], 4), objective, pace, machine.start("cpu", "fp32")))
    return state


@pytest.fixture
def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}
    module = ResNetForImageClassification(ResNetConfig(num_channels=3, num_labels=2, **sizes))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pretrained = by_hand(module, module.resnet, lambda: module(pixel_values=images))
    batch = Batch((0, 1, 2, 3), {MAIN: {"pixel_values": images}}, torch.tensor([0, 1, 0, 1]), torch.ones(4))
    return Tunable(pretrained, "own", {}, 2), batch


def statistics(net):
    """Stage -> the running statistics of its BatchNorms."""
    named = dict(net.named_modules())
    return {
        stage.name: [
            buffer.clone()
            for path in stage.modules
            for module in named[path].modules()
            if isinstance(module, nn.BatchNorm2d)
            for buffer in (module.running_mean, module.running_var, module.num_batches_tracked)
        ]
        for stage in net.stages
    }


def test_the_statistics_of_batchnorm_stand_still_in_frozen_stages_and_move_where_it_trains(resnet):
    net, batch = resnet
    names = [stage.name for stage in net.stages]
    assert names == ["stem", "block.0", "block.1", "block.2", "head"]

    def moved(rules):
        before, _ = statistics(net), trained(net, rules, batch)
        after = statistics(net)
        return [
            name
            for name in names
            if any(not torch.equal(*pair) for pair in zip(before[name], after[name], strict=True))
        ]

    head, frozen = Rule("head/*", 1.0), Rule("*", None)
    assert moved((head, frozen)) == []
    assert moved((head, Rule("block.2/*", 1.0), frozen)) == ["block.2"]
    assert moved((Rule("*", 1.0),)) == ["stem", "block.0", "block.1", "block.2"]
    assert moved((head, Rule("stem/*", 1.0), frozen)) == ["stem"], "frozen again"
    # Norms alone: a BatchNorm that trains keeps statistics of what it sees.
    assert moved((head, Rule("*", 1.0, kind="norm"), frozen)) == ["stem", "block.0", "block.1", "block.2"]
    # Its scale frozen in a stage that trains: it is frozen as a whole.
    assert moved((head, Rule("*", None, kind="norm"), Rule("*", 1.0))) == []


@pytest.fixture
def wav2vec2():
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (4, 4), "conv_stride": (2, 2), "num_feat_extract_layers": 2}
    still = dict.fromkeys(
        ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"), 0.0
    )
    masks = {"mask_time_prob": 0.5, "mask_time_length": 2, "layerdrop": 0.5, "apply_spec_augment": True}
    config = Wav2Vec2Config(
        **sizes, **convolutions, **still, **masks, classifier_proj_size=8, num_labels=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    module = Wav2Vec2ForSequenceClassification(config)
    sound = torch.rand(4, 400, generator=torch.Generator().manual_seed(0))
    pretrained = by_hand(module, module.wav2vec2, lambda: module(input_values=sound))
    return pretrained, sound


ALL = Phase("all", (Rule("*", 1.0),))
TOP = Phase("top", (Rule("stem/*", None), Rule("*", 1.0)))


def passes(net, sound):
    """Whether two passes in training mode give the same outputs."""
    with torch.no_grad():
        first = net({"input_values": sound})
        return all(torch.equal(first, net({"input_values": sound})) for _ in range(4))


@pytest.mark.parametrize("switch", ["layerdrop", "apply_spec_augment"])
def test_layers_are_dropped_and_inputs_masked_only_while_nothing_is_frozen(switch, wav2vec2):
    pretrained, sound = wav2vec2
    other = {"layerdrop": ("apply_spec_augment", False), "apply_spec_augment": ("layerdrop", 0.0)}[switch]
    setattr(pretrained.module.config, *other)
    net = Tunable(pretrained, "own", {}, 2)
    for phase, same in ((ALL, False), (TOP, True), (ALL, False)):
        phases.open_phase(net, phase)
        assert passes(net, sound) == same, phase.name


def test_a_dropout_that_stands_alone_in_a_frozen_stage_is_off(tiny):
    net = Tunable(transformers.load(str(tiny("gpt2")), ("a", "b"), "single_label_classification"), "own", {}, 2)
    for phase, on in ((ALL, True), (TOP, False), (ALL, True)):
        phases.open_phase(net, phase)
        assert net.body.transformer.drop.training == on, phase.name


def test_a_second_net_on_the_same_body_drops_and_masks_as_the_model_was_published(wav2vec2):
    pretrained, sound = wav2vec2
    phases.open_phase(Tunable(pretrained, "own", {}, 2), TOP)
    net = Tunable(pretrained, "own", {}, 2)
    phases.open_phase(net, ALL)
    assert not passes(net, sound)
