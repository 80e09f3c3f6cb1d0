"""The published configuration file: it loads as it stands, every key is accounted for, and mistakes are named."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from qcore.config import MODEL_KINDS, ConfigError, RunConfig, default_run
from qcore.config.ltx import LatentsConfig, LTXVideoConfig
from qcore.config.published_guide import GuideLoad, from_guide, is_guide
from qcore.config.published_guide_keys import KEYS

WHOLE = """
model: {id: Lightricks/LTX-Video, variant: 2b, cache_dir: null}
flow_matching: {method: quantum_fm, t_star: 0.2, use_anchor_net: true}
training:
  strategy: quantum_fm
  temporal_embedding_amplification: 5.0
  orthogonality_loss_weight: 0.1
  quantum_metrics_log_interval: 50
quantum:
  quantum_superposition_factor: 3.0
  high_freq_jitter: 0.1
  anchor_entropy_range: [-8, 8]
  collapse_threshold: 0.2
  frame_repulsion_strength: 5.0
  quantum_decay_rate: 25.0
  cosine_similarity_penalty: true
  orthogonal_projection: false
training_config:
  learning_rate: 1e-4
  batch_size: 1
  max_steps: 100000
  gradient_clip_norm: 1.0
  mixed_precision: bf16
  gradient_accumulation_steps: 4
  validation_steps: 1500
  num_validation_videos: 4
  validation_guidance_scale: 3.0
data:
  dataset_path: path/to/your/video/dataset
  resolution: [256, 256]
  num_frames: 16
  frame_stride: 1
  normalize_frames: true
  temporal_consistency_check: true
optimizer: {name: adamw, betas: [0.9, 0.95], weight_decay: 1e-2, eps: 1e-8}
lr_scheduler: {type: cosine_annealing, warmup_steps: 1000, min_lr: 1e-6}
lora:
  enabled: true
  rank: 128
  alpha: 256
  dropout: 0.1
  target_modules: [to_q, to_k, to_v, to_out.0, temporal_attn.to_q, temporal_attn.to_k, temporal_attn.to_v]
output:
  save_dir: outputs/quantum_collapse_v1
  checkpoint_steps: 5000
  save_full_model: false
  save_quantum_metrics: true
  export_quantum_analysis: true
logging:
  use_wandb: true
  project_name: quantum-video-generation
  run_name: quantum_collapse_experiment
  log_quantum_metrics: true
  log_frame_divergence: true
  log_state_collapse_energy: true
  log_orthogonality_scores: true
  loss_log_steps: 10
  metric_log_steps: 50
  sample_log_steps: 1500
debug:
  enabled: false
  save_intermediate_states: false
  visualize_state_collapse: false
  track_frame_similarity: true
"""

EXPECTED: dict[str, Any] = {
    "kind": "video_flow",
    "flow_path": "quantum",
    "noise_correlation": 1.0,
    "t_star": 0.2,
    "anchor": "network",
    "frame_amplification": 5.0,
    "orthogonality_weight": 0.1,
    "decoherence_weight": 0.1,
    "frames_every": 50,
    "superposition": 3.0,
    "anchor_jitter": 0.1,
    "log_variance_limit": 8.0,
    "repulsion": 5.0,
    "anchor_decay": 25.0,
    "orthogonal_projection": False,
    "learning_rate": 1e-4,
    "batch_size": 1,
    "steps": 100_000,
    "clip_norm": 1.0,
    "precision": "bf16",
    "accumulation": 4,
    "eval_every": 1500,
    "sample_every": 1500,
    "sampled_clips": 4,
    "source": "digits",
    "frames": 16,
    "canvas": 8,
    "beta1": 0.9,
    "beta2": 0.95,
    "weight_decay": 0.01,
    "lr_policy": "cosine",
    "warmup_steps": 1000,
    "min_lr_ratio": 0.01,
    "checkpoint_every": 5000,
}

adapter_is_wired = pytest.mark.skipif("ltx_video" not in MODEL_KINDS, reason="the kind ltx_video is not in this build")


def load(values: dict[str, Any], **options: Any) -> GuideLoad:
    return from_guide(yaml.safe_dump(values), **options)


def told(loaded: GuideLoad) -> set[str]:
    return {row.key for row in loaded.mapped} | {note.key for note in loaded.without_effect}


def keys_of(text: str) -> set[str]:
    return {f"{section}.{key}" for section, part in yaml.safe_load(text).items() for key in part}


def test_the_whole_file_loads_as_it_stands() -> None:
    loaded = from_guide(WHOLE)
    assert {name: loaded.config.value(name) for name in EXPECTED} == EXPECTED
    assert told(loaded) >= keys_of(WHOLE)
    assert all(note.why for note in (*loaded.without_effect, *loaded.adjusted))


def test_the_example_names_every_key_that_is_declared() -> None:
    declared = {f"{section}.{key}" for section, keys in KEYS.items() for key in keys}
    assert declared - keys_of(WHOLE) == {"quantum.use_anchor_net"}


def test_what_is_mapped_is_what_the_configuration_holds() -> None:
    loaded = from_guide(WHOLE)
    final = {row.ours: row.value for row in loaded.mapped}
    assert {name: loaded.config.value(name) for name in final} == final
    assert RunConfig.from_yaml(loaded.config.to_yaml()) == loaded.config


def test_numbers_without_a_dot_are_text_in_yaml_and_numbers_here() -> None:
    assert yaml.safe_load("a: 1e-4") == {"a": "1e-4"}
    config = from_guide("training_config: {learning_rate: 5e-5}\noptimizer: {weight_decay: 1e-2}").config
    assert config.value("learning_rate") == 5e-5
    assert config.value("weight_decay") == 0.01


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "flow_matching: {t_star: 0.15}\nquantum: {frame_repulsion_strength: 7.0, quantum_decay_rate: 30.0}\n"
            "training: {orthogonality_loss_weight: 0.2}",
            {"t_star": 0.15, "repulsion": 7.0, "anchor_decay": 30.0, "orthogonality_weight": 0.2},
        ),
        (
            "training_config: {gradient_clip_norm: 0.5, learning_rate: 5e-5}\nquantum: {anchor_entropy_range: [-6, 6]}",
            {"clip_norm": 0.5, "learning_rate": 5e-5, "log_variance_limit": 6.0},
        ),
        (
            "training: {temporal_embedding_amplification: 3.0}\ndata: {temporal_consistency_check: true}",
            {"frame_amplification": 3.0},
        ),
        (
            "model: {variant: 13b}\nlora: {rank: 256, alpha: 512}\nquantum: {use_anchor_net: true}",
            {"anchor": "network"},
        ),
        (
            "model: {variant: 2b}\ntraining_config: {gradient_accumulation_steps: 8}\nquantum: {use_anchor_net: false}",
            {"accumulation": 8, "anchor": "statistics"},
        ),
        ("quantum: {collapse_threshold: 0.3}", {"t_star": 0.3}),
        ("quantum: {}", {}),
    ],
)
def test_a_part_of_the_file_completes_the_published_recipe(text: str, expected: dict[str, Any]) -> None:
    recipe = {name: EXPECTED[name] for name in ("flow_path", "noise_correlation", "t_star", "anchor", "repulsion")}
    loaded = from_guide(text)
    wanted = {**recipe, **expected}
    assert {name: loaded.config.value(name) for name in wanted} == wanted
    assert told(loaded) >= keys_of(text)
    default = default_run("video_flow")
    if "training_config" not in text:
        assert loaded.config.value("learning_rate") == default.value("learning_rate")
    assert any("left out: as published" in row.key for row in loaded.mapped)


@pytest.mark.parametrize(
    ("method", "path", "correlation"),
    [
        ("quantum_fm", "quantum", 1.0),
        ("ring_fm", "ring", 1.0),
        ("rab_fm", "rab", 1.0),
        ("afm", "rab", 1.0),
        ("standard", "plain", 0.0),
        ("standard_fm", "plain", 0.0),
    ],
)
def test_the_method_chooses_path_and_noise(method: str, path: str, correlation: float) -> None:
    config = load({"flow_matching": {"method": method}}).config
    assert (config.value("flow_path"), config.value("noise_correlation")) == (path, correlation)


def test_another_path_says_which_forces_it_has_not() -> None:
    loaded = load({"flow_matching": {"method": "standard"}, "quantum": {"frame_repulsion_strength": 9.0}})
    assert loaded.config.value("repulsion") == default_run("video_flow").value("repulsion")
    assert [note.key for note in loaded.without_effect] == ["quantum.frame_repulsion_strength"]


def test_the_penalty_switch_turns_the_orthogonality_off() -> None:
    config = load(
        {"quantum": {"cosine_similarity_penalty": False}, "training": {"orthogonality_loss_weight": 0.2}}
    ).config
    assert (config.value("orthogonality_weight"), config.value("decoherence_weight")) == (0.0, 0.0)


def test_a_folder_that_exists_is_read_within_bounds(tmp_path: Path) -> None:
    data = {"dataset_path": str(tmp_path), "resolution": [256, 128], "num_frames": 64, "frame_stride": 2}
    loaded = load({"quantum": {}, "data": data})
    expected = {"source": "folder", "path": str(tmp_path), "canvas": 32, "frames": 16, "frame_stride": 2}
    assert {name: loaded.config.value(name) for name in expected} == expected
    assert [note.key for note in loaded.adjusted] == ["data.resolution", "data.num_frames"]
    small = load({"quantum": {}, "data": {**data, "resolution": [16, 16], "num_frames": 8}})
    assert (small.config.value("canvas"), small.config.value("frames"), small.adjusted) == (16, 8, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantum: {frame_repulsion: 5}", "key quantum.frame_repulsion; did you mean 'frame_repulsion_strength'?"),
        ("quantumm: {}\nquantum: {}", "unknown section 'quantumm'; did you mean 'quantum'?"),
        ("training: {learning_rate: 1}", "unknown key training.learning_rate; it belongs to training_config"),
        ("quantum: {frame_repulsion_strength: -1}", "frame_repulsion_strength = -1 is refused: .* from 0 to 50"),
        ("quantum: {quantum_decay_rate: 0}", "quantum_decay_rate = 0 is refused: .* from 0.01 to 100"),
        ("quantum: {anchor_entropy_range: [-8, 6]}", "is refused: .* take \\[-8, 8\\]"),
        ("quantum: {anchor_entropy_range: [8, -8]}", "is refused: .* take \\[-8, 8\\]"),
        ("quantum: {anchor_entropy_range: [-0.1, 0.1]}", "is refused: .* from 0.5 to 20"),
        ("quantum: {anchor_entropy_range: 8}", "is refused: it must be a list of two"),
        ("quantum: {cosine_similarity_penalty: 1}", "is refused: it must be true or false"),
        ("quantum: {collapse_threshold: 0.2}\nflow_matching: {t_star: 0.15}", "collapse_threshold = 0.2 contradicts"),
        (
            "quantum: {use_anchor_net: true}\nflow_matching: {use_anchor_net: false}",
            "quantum.use_anchor_net = True contradicts flow_matching.use_anchor_net = False",
        ),
        ("flow_matching: {method: ring_fm}\ntraining: {strategy: quantum_fm}", "contradicts"),
        ("flow_matching: {method: magic}", "method = 'magic' is refused: it must be one of"),
        ("model: {variant: 5b}", "variant = '5b' is refused: it must be one of 2b, 13b"),
        ("optimizer: {name: lion}", "name = 'lion' is refused: it must be one of adamw"),
        ("optimizer: {betas: [0.9]}", "betas = .* a list of two"),
        ("lr_scheduler: {min_lr: 1e-3}\ntraining_config: {learning_rate: 1e-4}", "from 0 to .* = 0.0001"),
        ("training_config: {learning_rate: fast}", "learning_rate = 'fast' is refused"),
        ("data: {resolution: [256, 2]}", "resolution = 2 is refused: .* from 4"),
        ("quantum: 5", "section 'quantum' is a mapping"),
        ("[1, 2]", "is a mapping of sections"),
        ("", "is a mapping of sections"),
        ("quantum: [", "this is not YAML"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_guide(text)
    assert re.search(message, str(refused.value)), str(refused.value)


@pytest.mark.parametrize("text", [WHOLE, "quantum: {}", "model: {variant: 13b}", "data: {num_frames: 16}"])
def test_a_guide_is_recognised(text: str) -> None:
    assert is_guide(yaml.safe_load(text))


def test_a_run_configuration_is_no_guide() -> None:
    for kind in MODEL_KINDS:
        assert not is_guide(yaml.safe_load(default_run(kind).to_yaml()))
    adapter = {"model": LTXVideoConfig(variant="13b").model_dump(), "data": LatentsConfig().model_dump()}
    for values in (adapter, {}, None, [], "quantum", {"data": {"frame_stride": 2}}, {"model": {"width": 8}}):
        assert not is_guide(values)


@adapter_is_wired
def test_the_adapter_gets_the_model_and_its_lora() -> None:
    loaded = from_guide(WHOLE, adapter=True)
    expected = {
        "kind": "ltx_video",
        "variant": "2b",
        "model_id": "Lightricks/LTX-Video",
        "lora_rank": 128,
        "lora_alpha": 256.0,
        "lora_dropout": 0.1,
        "lora_targets": ["to_q", "to_k", "to_v", "to_out.0"],
        "source": "random",
        "channels": 128,
        "frames": 2,
        "latent_height": 8,
        "latent_width": 8,
        "flow_path": "quantum",
        "noise_correlation": 1.0,
        "steps": 100_000,
    }
    assert {name: loaded.config.value(name) for name in expected} == expected
    assert told(loaded) >= keys_of(WHOLE)
    assert {note.key for note in loaded.adjusted} >= {"lora.target_modules", "data.num_frames", "data.resolution"}


@adapter_is_wired
def test_the_adapter_reads_a_folder_of_latents_as_they_are(tmp_path: Path) -> None:
    config = load({"quantum": {}, "data": {"dataset_path": str(tmp_path)}}, adapter=True).config
    expected = {"source": "folder", "path": str(tmp_path), "normalisation": "none"}
    assert {name: config.value(name) for name in expected} == expected


@adapter_is_wired
def test_the_large_variant_does_not_load_the_small_ones_weights() -> None:
    loaded = load({"model": {"id": "Lightricks/LTX-Video", "variant": "13b"}}, adapter=True)
    assert (loaded.config.value("variant"), loaded.config.value("model_id")) == ("13b", "")
    assert [note.key for note in loaded.adjusted] == ["model.id"]
    mine = load({"model": {"id": "someone/theirs", "variant": "13b"}}, adapter=True)
    assert mine.config.value("model_id") == "someone/theirs"


def test_the_adapter_needs_lora() -> None:
    with pytest.raises(ConfigError, match=r"lora\.enabled = False is refused"):
        load({"lora": {"enabled": False}}, adapter=True)


@pytest.mark.parametrize("path", ["~nouserx/clips", "a" * 5_000, "~/" + "a" * 5_000])
def test_a_folder_that_cannot_be_is_a_folder_that_is_not_there(path: str) -> None:
    loaded = load({"data": {"dataset_path": path}})
    assert loaded.config.value("source") == "digits"
    assert [note.key for note in loaded.adjusted if "on this machine" in note.why] == ["data.dataset_path"]
