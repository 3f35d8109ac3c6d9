"""The jobs that are compared, by name: what is trained or run, on which rows, and how each side is told.

A job is the same work on both sides. Where a job says nothing, it is an adapter of rank 16 on all linear layers of
SmolLM2-135M, AdamW, clipping, every token labelled.
"""

from dataclasses import dataclass, field
from enum import Enum

from rows import Dialogues, Rows, Texts

LORA = """[adapter]
kind = "lora"
rank = 16
alpha = 32.0
init_from = {adapter}
"""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ON_ATTENTION = LORA + f"targets = {list(ATTENTION)}\n".replace("'", '"')
NF4 = """
[quantization]
kind = "nf4"
"""
TEACHER = """
[objective]
kind = "distill"
teacher = {teacher}
alpha = 0.5
temperature = 2.0
"""


class Measure(Enum):
    """What is measured of a run; peak memory always is."""

    STEPS = "tokens/s of every step but the first, which pays for page faults and lazy set-up"
    START = "time from the start of the process to the end of the first step, less that of a warm step"
    TEXT = "tokens/s while the prompt is read, and of new tokens, without loading"


@dataclass(frozen=True)
class Size:
    """Packs a step, tokens a pack, steps a run. For text: prompts, tokens of a prompt, new tokens."""

    batch: int
    length: int
    steps: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.length}"


@dataclass(frozen=True)
class Job:
    name: str
    about: str
    sizes: tuple[Size, ...]
    smoke: tuple[Size, ...]
    # What the recipe says beside model, data, duration and dtype; {adapter} and {teacher} are paths.
    recipe: str = LORA
    settings: tuple[str, ...] = ()
    # reference.py's verb and arguments; files, sizes and dtype are added.
    reference: tuple[str, ...] = ("train",)
    shape: str = "smollm2-135m"
    teacher: str | None = None
    targets: tuple[str, ...] = ()
    form: str | None = None  # of the model's files, where not as they are
    rows: Rows = field(default_factory=Texts)
    measure: Measure = Measure.STEPS
    # Variants that run when none are named.
    ours: str = "f32,bf16"
    theirs: str = "f32,bf16,bf16@large-blocks"
    # Each side lays out packs of its own, so steps have other rows; a smoke run has all rows in each step.
    own_packs: bool = False

    @property
    def adapted(self) -> bool:
        return "{adapter}" in self.recipe


LENGTHS = (512, 1024, 2048, 4096, 8192)
TINY = (Size(2, 32, 3),)

JOBS = {
    job.name: job
    for job in (
        Job("lora", "LoRA, all linear layers", sizes=(Size(4, 512, 6),), smoke=TINY),
        Job(
            "chat-packed",
            "LoRA on packed dialogues of mixed length, 30 % labelled; the reference is TRL's SFTTrainer",
            sizes=(Size(4, 512, 6),),
            smoke=(Size(64, 64, 3),),
            recipe=LORA,
            reference=("sft",),
            rows=Dialogues(),
            own_packs=True,
        ),
        Job(
            "full",
            "every weight trained",
            sizes=(Size(2, 512, 6),),
            smoke=TINY,
            recipe="",
            reference=("train", "--method", "full"),
        ),
        Job(
            "qlora",
            "LoRA on a base in NF4, LLaMA 3.2 1B shape; the reference is PEFT + bitsandbytes",
            sizes=(Size(1, 512, 4),),
            smoke=TINY,
            recipe=LORA + NF4,
            reference=("train", "--method", "qlora"),
            shape="llama3.2-1b",
        ),
        Job("pythia", "LoRA, all linear layers, Pythia-160M shape", sizes=(Size(4, 512, 6),), smoke=TINY, shape="pythia-160m"),
        Job(
            "moe",
            "LoRA on attention, Mixtral-shaped mixture of 8 experts, 0.3 B weights",
            sizes=(Size(4, 512, 6),),
            smoke=TINY,
            recipe=ON_ATTENTION,
            shape="mixtral-0.3b",
            targets=ATTENTION,
        ),
        Job(
            "context",
            "LoRA, one pack a step, blocks recomputed",
            sizes=tuple(Size(1, length, 3) for length in LENGTHS),
            smoke=(Size(1, 32, 3), Size(1, 64, 3), Size(1, 128, 3)),
            settings=("train.recompute=blocks",),
            reference=("train", "--recompute"),
            ours="bf16",
            theirs="bf16",
        ),
        Job(
            "distill",
            "LoRA beside a live teacher of twice the blocks, alpha 0.5, temperature 2, forward KL",
            sizes=(Size(4, 512, 4),),
            smoke=TINY,
            recipe=LORA + TEACHER,
            teacher="smollm2-deep",
            theirs="f32,bf16",
        ),
        Job(
            "start",
            "LoRA, from the start of the process to the end of its first step, warm disk",
            sizes=(Size(4, 512, 3),),
            smoke=TINY,
            measure=Measure.START,
            theirs="f32,bf16",
        ),
        Job(
            "load",
            "LoRA with few tokens on 1.24 billion weights in bf16, from the start of the process to the end of its first step",
            sizes=(Size(1, 16, 3),),
            smoke=TINY,
            shape="llama3.2-1b",
            measure=Measure.START,
            ours="bf16",
            theirs="bf16",
        ),
        Job(
            "generate",
            "greedy text after a prompt, one at a time, weights in bf16 files",
            sizes=(Size(4, 512, 64),),
            smoke=(Size(3, 32, 8),),
            recipe="",
            reference=("generate",),
            form="endless",
            measure=Measure.TEXT,
            ours="f32",
            theirs="f32,bf16",
        ),
        Job(
            "generate-nf4",
            "greedy text after a prompt, one at a time, weights in NF4 files; the reference is transformers + bitsandbytes",
            sizes=(Size(4, 512, 64),),
            smoke=(Size(3, 32, 8),),
            recipe="",
            reference=("generate",),
            form="nf4",
            measure=Measure.TEXT,
            ours="f32",
            theirs="f32,bf16",
        ),
    )
}
