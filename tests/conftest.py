"""What every test shares: no network, one thread per parallel worker, and the real data beside the repository."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Set before torch is imported, and inherited by every process a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["KERAS_BACKEND"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

if "PYTEST_XDIST_WORKER" not in os.environ:
    # Workers inherit it; no test reads or fills the cache of the person who runs them.
    _CACHE = tempfile.TemporaryDirectory(prefix="tunesmith-cache-")
    os.environ["TUNESMITH_CACHE"] = _CACHE.name
    _STUDIES = tempfile.TemporaryDirectory(prefix="tunesmith-studies-")
    os.environ["TUNESMITH_STUDIES"] = _STUDIES.name

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real") and not REAL_DATA.is_dir():
        pytest.skip(f"real data is not at {REAL_DATA}")
    if item.get_closest_marker("torchvision") and importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed here: make torchvision")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("trec")` is the folder of that data set; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"real data is not at {folder}")
        return folder

    return find


@pytest.fixture(scope="session")
def families() -> ModuleType:
    """bench/families.py as a module: `families.tiny_folder("bert", place)` writes a tiny random model there."""
    file = Path(__file__).resolve().parents[1] / "bench" / "families.py"
    spec = importlib.util.spec_from_file_location("families", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["families"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(families: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """`tiny("bert")` writes a tiny random model of that family and gives its folder."""

    def make(family: str, **fields: object) -> Path:
        folder: Path = families.tiny_folder(family, tmp_path / family, **fields)
        return folder

    return make


@pytest.fixture(scope="session")
def sound_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`sound_model("wav2vec2")` is the folder of a tiny random model of sounds with its feature extractor: "wav2vec2"
    minds an attention mask, "hubert" does not, "ast" and "whisper" read spectrograms of one size."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = _sound_model(family, tmp_path_factory.mktemp("sound") / family)
        return made[family]

    return make


def _sound_model(family: str, folder: Path) -> Path:
    import torch
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    wave = {"conv_dim": (8, 8), "conv_stride": (8, 5), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
    wave |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
    wave |= {"feat_extract_norm": "group" if family == "hubert" else "layer", "mask_time_length": 2}
    torch.manual_seed(0)
    if family == "ast":
        config = transformers.ASTConfig(**sizes, max_length=64, num_mel_bins=16, patch_size=8)
        extractor = transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64)
    elif family == "whisper":
        sizes = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
        sizes |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 8}
        tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
        more = {"num_mel_bins": 80, "max_source_positions": 50, "max_target_positions": 8, "classifier_proj_size": 8}
        config = transformers.WhisperConfig(**sizes, **more, **tokens)
        extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    else:
        more = {"squeeze_factor": 2} if family.startswith("sew") else {"do_stable_layer_norm": family == "wav2vec2"}
        config = transformers.AutoConfig.for_model(family, **sizes, **wave, **more, layerdrop=0.0)
        masked = {"return_attention_mask": family == "wav2vec2"}
        extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=2000, **masked)
    model = transformers.AutoModelForAudioClassification.from_config(config)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tone() -> Callable[..., Path]:
    """`tone(path, 440, seconds=0.3)` writes a sound that rises and falls, with some noise, and gives its path."""
    import numpy as np
    import soundfile

    def write(path: Path, frequency: float, *, seconds: float = 0.3, rate: int = 4000, channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        times = np.arange(int(seconds * rate)) / rate
        random = np.random.default_rng(int(frequency * 1000 + seconds * 10_000))
        wave = 0.4 * np.sin(2 * np.pi * frequency * times) * np.sin(np.pi * times / seconds)
        wave = wave + 0.02 * random.normal(size=len(times))
        soundfile.write(path, np.stack([wave] * channels, 1) if channels > 1 else wave, rate)
        return path

    return write


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory, tone: Callable[..., Path]) -> Path:
    """A folder of 120 short sounds of two classes, low/ and high/, of many lengths."""
    folder = tmp_path_factory.mktemp("tones")
    for number in range(60):
        seconds = 0.08 + 0.006 * (7 * number % 60)
        tone(folder / "low" / f"{number:02}.wav", 200 + number, seconds=seconds)
        tone(folder / "high" / f"{number:02}.wav", 600 + number, seconds=seconds)
    return folder
