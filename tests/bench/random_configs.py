"""Random `config.json` objects of every decoder family, for `fuzz_families.py`: sizes nobody chose, and the keys of old
and new files mixed as the hub has them. `CONFIGS[model_type](Draw(seed))` is one of them.

Not drawn is what the reference cannot run: odd head widths under rotary positions (with ALiBi it refuses them too),
heads that do not divide the hidden size, rope scalings its validation fails on. Neither are sizes that leave nothing but
rounding to compare, such as norms over two numbers."""

import random
from typing import Any

LONGEST = 30  # tokens of the longest row; learned positions are at least as many
ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "quick_gelu"]
Keys = dict[str, Any]


class Draw(random.Random):
    """Random choices that configs are made of."""

    def flag(self) -> bool:
        return self.random() < 0.5

    def maybe(self, **keys: Any) -> Keys:
        """The keys, or none of them."""
        return keys if self.flag() else {}

    def named(self, value: Any, *names: str) -> Keys:
        """A key under one of its spellings."""
        return {self.choice(names): value}

    def even(self, low: int, high: int) -> int:
        return 2 * self.randint((low + 1) // 2, high // 2)

    def divisor(self, number: int) -> int:
        return self.choice([n for n in range(1, number + 1) if number % n == 0])

    def hidden(self, heads: int) -> int:
        """A multiple of the heads, 12 at least."""
        return heads * self.randint(-(-12 // heads), 8 + 12 // heads)

    def factors(self, count: int) -> list[float]:
        return [round(self.uniform(1, 5), 3) for _ in range(count)]


def tokens(r: Draw) -> Keys:
    vocabulary = r.randint(17, 90)
    pad = r.choice([None, 0, vocabulary - 1, r.randrange(vocabulary)])
    return dict(vocab_size=vocabulary, pad_token_id=pad, bos_token_id=1, eos_token_id=r.choice([None, 2, [2, 5]]))


def scaling(r: Draw, dims: int, positions: int) -> Keys:
    """A rope scaling that acts within LONGEST positions."""
    kinds = ["default", "linear", "llama3", "yarn", "longrope"]
    match r.choice(kinds + ["dynamic"] if dims > 2 and positions < LONGEST else kinds):
        case "llama3":
            high, original = r.uniform(1.5, 6), r.randint(8, 90)
            keys = dict(low_freq_factor=1.0, high_freq_factor=high, original_max_position_embeddings=original)
            return dict(rope_type="llama3", factor=r.uniform(1.5, 9)) | keys
        case "yarn":
            keys = dict(rope_type="yarn", factor=r.uniform(1.1, 6), original_max_position_embeddings=r.randint(6, 40))
            keys |= r.maybe(beta_fast=r.uniform(4, 30), beta_slow=r.uniform(0.5, 2)) | r.maybe(truncate=False)
            scales = dict(mscale=r.uniform(0.7, 2), mscale_all_dim=r.uniform(0.7, 1.5))
            return keys | r.choice([{}, dict(attention_factor=r.uniform(0.8, 1.4)), scales])
        case "longrope":
            keys = dict(rope_type="longrope", original_max_position_embeddings=r.randint(6, 24)) | r.maybe(factor=2.3)
            return keys | dict(short_factor=r.factors(dims // 2), long_factor=r.factors(dims // 2))
        case "default":
            return dict(rope_type="default")
        case linear_or_dynamic:
            return dict(rope_type=linear_or_dynamic, factor=r.uniform(1.1, 4))


def rope(r: Draw, dims: int, positions: int) -> Keys:
    """`rope_parameters`, or the two keys before it with either name of the kind."""
    theta, scaled = r.choice([10000.0, 500.0, 1e6, 37.5]), scaling(r, dims, positions)
    plain = scaled["rope_type"] == "default"
    match r.randrange(3):
        case 0:
            return dict(rope_parameters=scaled | dict(rope_theta=theta))
        case 1:
            return dict(rope_theta=theta, rope_scaling=None if plain else scaled)
    old = {"type" if key == "rope_type" else key: value for key, value in scaled.items()}
    return dict(rope_theta=theta) | ({} if plain else dict(rope_scaling=old))


def unscaled(keys: Keys) -> Keys:
    return {key: value for key, value in keys.items() if not key.startswith("rope_")}


def gated(r: Draw, head_dim: str = "may differ") -> Keys:
    """What LLaMA made common. `head_dim` "follows" from the hidden size, or is "given", or either."""
    heads, positions = r.randint(1, 7), r.choice([8, 17, 64, 128])
    width = r.even(6 if head_dim == "given" else -(-12 // heads), 16)
    given = head_dim == "given" or (head_dim == "may differ" and r.flag())
    return tokens(r) | (dict(head_dim=width) if given else {}) | rope(r, width, positions) | dict(
        num_attention_heads=heads,
        num_key_value_heads=r.divisor(heads),
        hidden_size=r.hidden(heads) if given else heads * width,
        intermediate_size=r.randint(5, 40),
        num_hidden_layers=r.randint(1, 4),
        max_position_embeddings=positions,
        rms_norm_eps=r.choice([1e-6, 1e-5, 1e-2]),
        tie_word_embeddings=r.flag(),
        hidden_act=r.choice(["silu", *ACTIVATIONS]),
    )


def layer_types(r: Draw, keys: Keys) -> Keys:
    return r.maybe(layer_types=r.choices(["full_attention", "sliding_attention"], k=keys["num_hidden_layers"]))


def llama(r: Draw) -> Keys:
    return gated(r) | r.maybe(attention_bias=r.flag()) | r.maybe(mlp_bias=r.flag())


def mistral(r: Draw) -> Keys:
    # The reference cannot validate some rope scalings of this family and the next without `head_dim`.
    return gated(r, "given") | dict(sliding_window=r.choice([None, 1, r.randint(2, 40)]))


def mixtral(r: Draw) -> Keys:
    experts = r.randint(1, 6)
    keys = dict(num_local_experts=experts, num_experts_per_tok=r.randint(1, experts))
    return gated(r, "given") | keys | dict(sliding_window=r.choice([None, r.randint(1, 40)]))


def gemma(r: Draw) -> Keys:
    return gated(r, "given") | r.maybe(attention_bias=r.flag()) | dict(hidden_act="gelu_pytorch_tanh")


def gemma2(r: Draw) -> Keys:
    keys = gated(r, "given") | r.maybe(attention_bias=r.flag())
    keys["hidden_activation"] = keys.pop("hidden_act")
    return keys | layer_types(r, keys) | dict(
        query_pre_attn_scalar=r.randint(1, 30),
        sliding_window=r.randint(1, 40),
        final_logit_softcapping=r.choice([None, 2.5, 30.0]),
        attn_logit_softcapping=r.choice([None, 1.5, 50.0]),
    )


def gemma3(r: Draw) -> Keys:
    keys = unscaled(gemma2(r))
    for key in ("attn_logit_softcapping", "layer_types"):
        keys.pop(key, None)
    full = r.choice([dict(rope_type="linear", factor=3.5), dict(rope_type="default")])
    if r.flag():
        near = dict(rope_type="default", rope_theta=70.0)
        keys |= dict(rope_parameters=dict(full_attention=full | dict(rope_theta=5000.0), sliding_attention=near))
    else:
        keys |= r.maybe(rope_theta=5000.0) | r.maybe(rope_local_base_freq=70.0)
        keys |= dict(rope_scaling=full) if "factor" in full else {}
    return keys | (r.maybe(sliding_window_pattern=r.randint(1, 4)) or layer_types(r, keys))


def falcon(r: Draw) -> Keys:
    heads, alibi, positions = r.randint(1, 9), r.flag(), r.choice([8, 64])
    head_dim = r.even(-(-12 // heads), 14)
    keys = tokens(r) | dict(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_hidden_layers=r.randint(1, 3),
        bias=r.flag(),
        alibi=alibi,
        layer_norm_epsilon=r.choice([1e-5, 1e-3]),
        max_position_embeddings=positions,
    )
    keys |= r.maybe(ffn_hidden_size=r.randint(5, 50)) | r.maybe(activation=r.choice(ACTIVATIONS))
    keys |= r.maybe(tie_word_embeddings=False) | ({} if alibi else rope(r, head_dim, positions))
    if r.flag():
        return keys | dict(multi_query=r.flag(), parallel_attn=r.flag())
    grouped = r.maybe(num_kv_heads=r.divisor(heads)) | r.maybe(num_ln_in_parallel_attn=r.choice([1, 2]))
    return keys | dict(new_decoder_architecture=True) | grouped


def gpt_neox(r: Draw) -> Keys:
    heads, head_dim = r.randint(2, 7), r.choice([8, 12])
    share = r.choice([1.0, 0.5, 0.25] if head_dim == 8 else [1.0, 0.5])
    keys = tokens(r) | r.maybe(attention_bias=r.flag()) | dict(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_hidden_layers=r.randint(1, 4),
        intermediate_size=r.randint(5, 50),
        use_parallel_residual=r.flag(),
        layer_norm_eps=r.choice([1e-5, 1e-3]),
        hidden_act=r.choice(ACTIVATIONS),
        max_position_embeddings=r.choice([8, 64]),
        tie_word_embeddings=r.flag(),
    )
    if r.flag():
        return keys | dict(rotary_pct=share, rotary_emb_base=r.choice([10000, 300]))
    return keys | dict(rope_parameters=dict(rope_type="default", rope_theta=300.0, partial_rotary_factor=share))


def plain(r: Draw) -> Keys:
    """What most families before LLaMA have in common."""
    return tokens(r) | r.maybe(tie_word_embeddings=r.flag()) | dict(layer_norm_epsilon=r.choice([1e-5, 1e-3]))


def gpt(r: Draw, width: int, heads: int) -> Keys:
    keys = r.named(width, "n_embd", "hidden_size") | r.named(heads, "n_head", "num_attention_heads")
    keys |= r.named(r.randint(1, 4), "n_layer", "num_hidden_layers") | dict(n_inner=r.choice([None, r.randint(5, 50)]))
    keys |= r.named(r.randint(LONGEST, 2 * LONGEST), "n_positions", "max_position_embeddings")
    dropout = dict(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    return plain(r) | keys | dropout | dict(activation_function=r.choice(ACTIVATIONS))


def gptj(r: Draw) -> Keys:
    heads = r.randint(1, 7)
    head_dim = r.even(-(-12 // heads), 14)
    return gpt(r, heads * head_dim, heads) | dict(rotary_dim=r.even(2, head_dim))


def gpt2(r: Draw) -> Keys:
    heads = r.randint(1, 7)
    keys = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")
    return gpt(r, r.hidden(heads), heads) | r.maybe(**{key: r.flag() for key in keys})


def gpt_neo(r: Draw) -> Keys:
    heads, layers = r.randint(1, 7), r.randint(1, 4)
    kinds = [[[r.choice(["global", "local"])], 1] for _ in range(layers)]
    if layers % 2 == 0 and r.flag():
        kinds = [[["global", "local"], layers // 2]]
    keys = r.named(heads, "num_heads", "num_attention_heads") | r.named(layers, "num_layers", "num_hidden_layers")
    return plain(r) | keys | dict(
        hidden_size=r.hidden(heads),
        attention_types=kinds,
        window_size=r.randint(1, 35),
        intermediate_size=r.choice([None, r.randint(5, 50)]),
        max_position_embeddings=r.randint(LONGEST, 2 * LONGEST),
        activation_function=r.choice(ACTIVATIONS),
        resid_dropout=0.0,
    )


def opt(r: Draw) -> Keys:
    heads = r.randint(1, 7)
    hidden = r.hidden(heads)
    keys = r.maybe(word_embed_proj_dim=r.choice([hidden, r.randint(6, 40)])) | r.maybe(tie_word_embeddings=r.flag())
    return tokens(r) | keys | dict(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_hidden_layers=r.randint(1, 3),
        ffn_dim=r.randint(5, 50),
        max_position_embeddings=r.randint(LONGEST, 2 * LONGEST),
        do_layer_norm_before=r.flag(),
        enable_bias=r.flag(),
        layer_norm_elementwise_affine=r.flag(),
        activation_function=r.choice(ACTIVATIONS),
        dropout=0.0,
    )


def bloom(r: Draw) -> Keys:
    heads = r.randint(1, 13)
    keys = r.named(r.hidden(heads), "hidden_size", "n_embed") | r.named(heads, "n_head", "num_attention_heads")
    return plain(r) | keys | r.named(r.randint(1, 3), "n_layer", "num_hidden_layers")


def mpt(r: Draw) -> Keys:
    heads = r.randint(1, 13)
    attention = dict(attn_type="multihead_attention", alibi=True, attn_impl="torch") | r.maybe(alibi_bias_max=8)
    attention |= r.maybe(clip_qkv=0.7) | r.maybe(softmax_scale=0.21)
    keys = r.named(r.hidden(heads), "d_model", "hidden_size") | r.named(heads, "n_heads", "num_attention_heads")
    keys |= r.named(r.randint(1, 3), "n_layers", "num_hidden_layers") | r.maybe(attn_config=attention)
    return plain(r) | keys | dict(max_seq_len=r.randint(LONGEST, 2 * LONGEST))


def qwen(r: Draw, head_dim: str) -> Keys:
    keys = gated(r, head_dim)
    if r.flag():
        return keys | dict(use_sliding_window=False, sliding_window=3, max_window_layers=0)
    window = dict(use_sliding_window=True, sliding_window=r.randint(1, 40), max_window_layers=r.randint(0, 4))
    return keys | window | layer_types(r, keys)


def phi3(r: Draw) -> Keys:
    keys = unscaled(gated(r, "follows")) | dict(sliding_window=r.choice([None, r.randint(1, 40)]))
    original, head_dim = r.randint(6, 24), keys["hidden_size"] // keys["num_attention_heads"]
    keys |= dict(original_max_position_embeddings=original, max_position_embeddings=original * r.choice([1, 4]))
    dims = r.even(2, head_dim)
    dims = dims if int(head_dim * (dims / head_dim)) == dims else head_dim
    part = {} if dims == head_dim else dict(partial_rotary_factor=dims / head_dim)
    factors = dict(short_factor=r.factors(dims // 2), long_factor=r.factors(dims // 2))
    match r.randrange(4):
        case 0:
            return keys | part | r.maybe(rope_theta=300.0)
        case 1:
            # The reference looks for the original length beside the object only under the later name.
            old = r.choice([dict(type="longrope"), dict(type="su", original_max_position_embeddings=original)])
            return keys | part | dict(rope_theta=300.0, rope_scaling=old | factors)
        case 2:
            new = dict(rope_type="longrope", rope_theta=300.0, original_max_position_embeddings=original)
            return keys | dict(rope_parameters=new | factors | part)
    return keys | dict(rope_parameters=dict(rope_type="default", rope_theta=300.0) | part)


def olmo2(r: Draw) -> Keys:
    return gated(r, "follows") | r.maybe(attention_bias=r.flag())


def smollm3(r: Draw) -> Keys:
    keys = gated(r, "follows") | r.maybe(attention_bias=r.flag()) | r.maybe(mlp_bias=r.flag())
    rotated = [r.randint(0, 1) for _ in range(keys["num_hidden_layers"])]
    keys |= r.choice([{}, dict(no_rope_layer_interval=r.randint(1, 3)), dict(no_rope_layers=rotated)])
    return keys | r.maybe(use_sliding_window=True, sliding_window=r.randint(1, 40))


CONFIGS = {
    "llama": llama,
    "mistral": mistral,
    "mixtral": mixtral,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "falcon": falcon,
    "gpt_neox": gpt_neox,
    "gptj": gptj,
    "gpt_neo": gpt_neo,
    "opt": opt,
    "bloom": bloom,
    "qwen2": lambda r: qwen(r, "follows"),
    "qwen3": lambda r: qwen(r, "given"),
    "phi3": phi3,
    "olmo2": olmo2,
    "smollm3": smollm3,
    "gpt2": gpt2,
    "mpt": mpt,
}
