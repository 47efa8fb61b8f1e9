"""Settings shared by commands: the model, the data, the training and the run. One declaration each, no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from sidestep_core.options import config, option

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Conditioning = Literal["inference", "side-step"]
Quantization = Literal["none", "int8", "nf4"]


@config
class ModelConfig:
    """Which ACE-Step model is used, and on what."""

    checkpoint_dir: Path | None = option(
        default=None,
        short="-c",
        help="Folder that holds the model folders, the VAE and the text encoder; "
        "from the settings, then ./checkpoints, when not given.",
    )
    model: str | None = option(
        default=None,
        short="-M",
        aliases=("--model-variant",),
        help="base, sft, turbo, xl-base, xl-sft, xl-turbo or a folder name; "
        "the first of base, sft and turbo that is there when not given.",
    )
    device: str = option(default="auto", help="auto, cpu, cuda, cuda:N, mps or xpu.")
    precision: Precision = option(default="auto", help="Compute precision; auto is bf16 where the device has it.")


@config
class SongsConfig:
    """Which songs are meant, how much of them is used and how they are described."""

    audio_dir: Path | None = option(
        default=None, short="-i", aliases=("--input",), help="Folder of songs, searched with its subfolders."
    )
    dataset_json: Path | None = option(default=None, help="Dataset file that lists the songs and their captions.")
    max_duration: float = option(
        default=0.0, at_least=0, help="Longest part of a song that is used, in seconds; 0 uses all of it."
    )
    custom_tag: str = option(default="", help="Trigger tag for songs that name none themselves.")
    tag_position: Literal["prepend", "append", "replace"] | None = option(
        default=None, help="Where the trigger tag goes in the caption; prepend unless the dataset file says otherwise."
    )
    genre_ratio: int | None = option(
        default=None, at_least=0, at_most=100, help="Per cent of songs described by their genre instead of a caption."
    )
    conditioning: Conditioning = option(
        default="inference",
        help="Prompt shape: as ACE-Step builds it when it generates, or as Side-Step's tensors have it.",
    )
    workers: int | None = option(
        default=None, at_least=1, advanced=True, help="Processes that decode audio; one for each core when not given."
    )


@config
class CheckConfig(SongsConfig):
    """What the data doctor looks at: songs, described as preprocessing would."""

    checkpoint_dir: Path | None = option(
        default=None,
        short="-c",
        help="Checkpoint folder whose tokenizer counts how long texts are; from the settings, then ./checkpoints, when "
        "not given, and estimated where there is none.",
    )


@config
class PreprocessConfig(SongsConfig):
    """How audio and captions become training tensors."""

    tensor_output: Path | None = option(
        default=None, short="-o", aliases=("--output",), help="Folder to write the tensors to."
    )
    normalize: Literal["none", "peak", "lufs"] = option(default="none", help="Loudness treatment before encoding.")
    target_db: float = option(default=-1.0, at_most=0, help="Peak level in dBFS that --normalize peak aims for.")
    target_lufs: float = option(
        default=-14.0, at_most=0, help="Integrated loudness in LUFS that --normalize lufs aims for."
    )
    latent: Literal["sample", "mean", "resample"] = option(
        default="sample",
        help="What is kept of the VAE's distribution: one seeded sample, its mean, "
        "or mean and deviation so that each training step draws anew.",
    )
    tile_seconds: float | None = option(
        default=None,
        at_least=1,
        advanced=True,
        help="Length of the windows the VAE encodes; 30 on a GPU with room, less elsewhere, when not given.",
    )
    tensor_format: Literal["safetensors", "pt"] = option(
        default="safetensors", help="safetensors, or pt files in Side-Step's layout."
    )
    seed: int = option(default=42, short="-s", help="Seed of the latent samples.")


@config
class MeasureConfig:
    """Which songs are measured, and what of it goes into their sidecars."""

    input: Path | None = option(
        default=None, short="-i", aliases=("--audio-dir",), help="Folder of songs, searched with its subfolders."
    )
    policy: Literal["fill_missing", "overwrite_all"] = option(
        default="fill_missing",
        help="Fill tempo, key and metre that nobody gave or only a provider, or replace yours, too.",
    )
    confidence: Literal["high", "medium", "low"] = option(
        default="medium", help="Least confidence with which a value is written; what is below is shown only."
    )
    device: str = option(default="auto", help="Where an analyser that has a model runs: auto, cpu, cuda, mps or xpu.")
    workers: int | None = option(
        default=None, at_least=1, advanced=True, help="Processes that measure; one for each core when not given."
    )
    dry_run: bool = option(default=False, help="Show what would be written and write nothing.")


@config
class DataConfig:
    """Where training tensors come from and how they are cut."""

    dataset_dir: tuple[Path, ...] = option(
        default=(), short="-d", help="Folder of tensors made by preprocess; several are trained on together."
    )
    chunk_duration: float | None = option(
        default=None, at_least=10, help="Train on windows of this many seconds instead of whole songs; 60 is usual."
    )
    max_latent_length: int | None = option(
        default=None, at_least=2, help="The same in latent frames (25 a second); wins over --chunk-duration."
    )
    dataset_repeats: tuple[int, ...] = option(
        default=(), short="-R", help="Visits of each song in one epoch, for all folders or for each of them; else 1."
    )
    dataset_weights: tuple[float, ...] = option(
        default=(), help="Weight of a folder's samples in the loss, for all or for each; else 1."
    )
    val_split: float = option(
        default=0.0, at_least=0, at_most=0.5, help="Share of the songs that is held out for validation."
    )
    num_workers: int = option(
        default=4, at_least=0, advanced=True, help="Loader processes for sets that do not fit into memory."
    )
    pin_memory: bool = option(default=True, advanced=True, help="Keep batches where a GPU can copy them directly.")
    prefetch_factor: int = option(default=2, at_least=1, advanced=True, help="Batches each loader process prepares.")

    def __attrs_post_init__(self) -> None:
        if any(repeats < 1 for repeats in self.dataset_repeats):
            raise ValueError(f"dataset_repeats must be at least 1, got {min(self.dataset_repeats)}")
        if not all(0 < weight < math.inf for weight in self.dataset_weights):
            raise ValueError("dataset_weights must be above 0 and finite")


@config
class TrainConfig:
    """How a run is trained, whatever the adapter."""

    learning_rate: float | None = option(
        default=None,
        short="-l",
        flag="--lr",
        aliases=("--learning-rate",),
        above=0,
        at_most=1,
        help="Peak learning rate; 3e-4 when not given, or the optimizer's own, such as 1 for prodigy.",
    )
    batch_size: int = option(default=1, short="-b", at_least=1, help="Songs or windows in one forward pass.")
    accumulation: int = option(
        default=4,
        short="-g",
        flag="--gradient-accumulation",
        at_least=1,
        help="Batches whose gradients make one step.",
    )
    epochs: int = option(default=1000, short="-e", at_least=1, help="Passes over the dataset.")
    max_steps: int = option(default=0, short="-m", at_least=0, help="Stop after this many steps; 0 is no limit.")
    warmup_steps: int = option(
        default=100, at_least=0, help="Steps until the peak rate is reached; at most a tenth of the run."
    )
    warmup_start_factor: float = option(
        default=0.1, above=0, at_most=1, advanced=True, help="Share of the peak rate that the first step uses."
    )
    max_grad_norm: float = option(default=1.0, above=0, help="Gradients are scaled down to this norm.")
    seed: int = option(default=42, short="-s", help="Seed of every random draw of the run.")
    conditioning_dropout: float = option(
        default=0.15,
        flag="--cfg-ratio",
        at_least=0,
        at_most=1,
        help="Share of samples trained with the empty condition, which guidance needs.",
    )
    timestep_min: float = option(default=0.0, at_least=0, below=1, help="Smallest timestep drawn; 0 is no noise.")
    timestep_max: float = option(default=1.0, above=0, at_most=1, help="Largest timestep drawn; 1 is pure noise.")
    loss_weighting: Literal["none", "min_snr"] = option(
        default="none", help="Weight of a sample by its timestep; min_snr weighs errors as they show in the audio."
    )
    snr_gamma: float = option(
        default=5.0, above=0, advanced=True, help="Signal-to-noise ratio above which min_snr weighs no higher."
    )
    ema_decay: float = option(
        default=0.0,
        at_least=0,
        below=1,
        help="Share of the averaged weights kept at each step; the average is what the run gives. 0 is no average.",
    )
    compile: bool = option(
        default=False,
        help="Compile the layers: the first step takes a minute or more, the others less time than without. "
        "Needs a C++ compiler, on GPUs Triton as well.",
    )

    def __attrs_post_init__(self) -> None:
        if self.timestep_min >= self.timestep_max:
            raise ValueError(f"timestep_min ({self.timestep_min:g}) must be below timestep_max ({self.timestep_max:g})")


@config
class MemoryConfig:
    """How a run is made to fit into the memory of its device."""

    gradient_checkpointing: bool | None = option(
        default=None,
        help="Recompute layers in the backward pass to save memory; as few as memory forces when not given.",
    )
    gradient_checkpointing_ratio: float | None = option(
        default=None, at_least=0, at_most=1, advanced=True, help="Share of the layers that are recomputed."
    )
    quantize_base: Quantization = option(
        default="none",
        help="Keep the frozen projections in 8 or 4 bits (int8, nf4) instead of the compute precision.",
    )
    block_swap: int = option(
        default=0,
        at_least=0,
        help="Layers whose frozen weights wait in main memory and come to the device when they are computed.",
    )


@config
class TargetsConfig:
    """Which projections of the decoder get an adapter, whatever its type."""

    target_modules: tuple[str, ...] = option(
        default=("q_proj", "k_proj", "v_proj", "o_proj"),
        help="Projections to adapt, by name (q_proj) or block and name (cross_attn.q_proj).",
    )
    attention: Literal["self", "cross", "both"] = option(
        default="both", flag="--attention-type", help="Attention blocks to adapt."
    )
    self_target_modules: tuple[str, ...] = option(
        default=(), help="Projections of self-attention, where they differ; only with --attention-type both."
    )
    cross_target_modules: tuple[str, ...] = option(
        default=(), help="Projections of cross-attention, where they differ; only with --attention-type both."
    )
    target_mlp: bool = option(default=True, help="Adapt gate_proj, up_proj and down_proj of the MLP as well.")
    include_modules: tuple[str, ...] = option(
        default=(),
        advanced=True,
        help="Adapt only those of them whose full name matches a pattern, such as 'layers.1?.self_attn.*'.",
    )
    exclude_modules: tuple[str, ...] = option(
        default=(), advanced=True, help="Leave out projections whose full name matches a pattern, such as 'layers.0.*'."
    )
    module_ranks: tuple[str, ...] = option(
        default=(),
        advanced=True,
        help="Ranks for projections by full name, as PATTERN=RANK or PATTERN=RANK/ALPHA; the last pattern that matches "
        "counts, and alpha keeps its ratio to the rank unless it is given.",
    )
    ignore_fisher_map: bool = option(
        default=False, help="Train without the rank map that 'sidestep analyze' left beside the tensors."
    )
    fisher_map: Path | None = option(
        default=None, advanced=True, help="Rank map to use; fisher_map.json in a tensor folder when not given."
    )

    def __attrs_post_init__(self) -> None:
        if self.ignore_fisher_map and self.fisher_map is not None:
            raise ValueError("ignore_fisher_map and fisher_map contradict each other")


@config
class KeepConfig:
    """How a run is judged, which adapters are kept beside the last one, and when it ends by itself."""

    validate_every: int = option(default=1, at_least=1, help="Epochs between trials of the held-out songs.")
    validation_points: int = option(
        default=4, at_least=1, advanced=True, help="Timesteps at which each held-out song is tried."
    )
    save_best: bool = option(
        default=True,
        help="Keep the adapter with the lowest loss in best/: that of the held-out songs, else the smoothed one.",
    )
    save_best_after: int = option(
        default=200, at_least=0, help="Epochs before the best is looked for; 0 looks from the start."
    )
    save_best_every_n_steps: int = option(
        default=0, at_least=0, help="Steps between further looks for the best; 0 looks at the end of epochs only."
    )
    early_stop_patience: int = option(
        default=0, at_least=0, help="Epochs without a new best after which the run ends; 0 never does."
    )
    loss_milestones: tuple[float, ...] = option(
        default=(), help="Losses at which the adapter is kept in milestones/, the first time each is reached."
    )

    def __attrs_post_init__(self) -> None:
        if not all(0 < milestone < math.inf for milestone in self.loss_milestones):
            raise ValueError("loss_milestones must be above 0 and finite")


@config
class RunConfig:
    """Where a run is written and how often."""

    output_dir: Path | None = option(default=None, short="-o", help="Folder of the run.")
    run_name: str | None = option(
        default=None, short="-n", help="Name of the run; made from time and adapter when not given."
    )
    save_every: int = option(default=50, at_least=1, help="Epochs between checkpoints.")
    save_every_steps: int = option(default=0, at_least=0, help="Steps between checkpoints; 0 saves by epochs only.")
    keep_last: int = option(default=0, at_least=0, help="Newest checkpoints to keep; 0 keeps all.")
    resume_from: str | None = option(
        default=None, help="Checkpoint folder to go on from, or 'latest' for the newest complete one of the run."
    )
    strict_resume: bool = option(default=True, help="Refuse to resume when data, adapter or settings changed.")
    log_every: int = option(default=10, at_least=1, help="Steps between progress lines.")


@config
class SoundConfig:
    """What audio is generated, and how."""

    prompt: str = option(default="", help="Description of the music, as a caption.")
    lyrics: str = option(default="", help="Lyrics to the prompt; instrumental without.")
    language: str = option(default="unknown", help="Language of the lyrics, such as en.")
    seconds: float = option(default=30.0, at_least=1, at_most=600, help="Length of the audio.")
    seed: int = option(default=42, help="Seed of the noise that everything starts from.")
    sampler: Literal["auto", "base", "turbo"] = option(
        default="auto",
        help="base takes 30 guided steps, turbo 8 without guidance; auto is what the model was trained for.",
    )
    steps: int | None = option(
        default=None, at_least=1, at_most=1000, help="Steps from noise to audio, if not the sampler's."
    )
    guidance: float | None = option(
        default=None, at_least=0, help="How far the prompt is followed, if not the sampler's 7; 1 is no guidance."
    )
    shift: float | None = option(
        default=None, above=0, advanced=True, help="Above 1, steps are closer together at high noise; 3 if not given."
    )


@config
class PreviewConfig(SoundConfig):
    """What is to be heard of a run while it trains."""

    every: int = option(default=0, at_least=0, help="Epochs between previews; 0 makes none by itself.")
    every_steps: int = option(default=0, at_least=0, help="Steps between previews; 0 goes by epochs only.")
    songs: tuple[str, ...] = option(
        default=(),
        help="Songs of the set whose captions and lyrics are used; the first held-out one, else the first, "
        "when neither songs nor a prompt are given.",
    )
    compare: bool = option(default=True, help="Make the same once without the adapter, to compare with.")
