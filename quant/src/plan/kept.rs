//! Which tensors are not quantized, by name: small ones that a model is sensitive to. Two lists, because llama.cpp's
//! quantizer and its converter each have their own, and files must equal theirs. What is absent: all other choices.

/// Where in a name a text must stand.
enum Match {
    /// Anywhere.
    Part(&'static str),
    /// The text is the whole name.
    Whole(&'static str),
}

use Match::{Part, Whole};

/// llama-quantize leaves these as they are (`tensor_allows_quantization` in src/llama-quant.cpp, b11434).
const NEVER_QUANTIZED: &[(Match, &str)] = &[
    (Part("_norm.weight"), "norm"),
    (Part("ffn_gate_inp.weight"), "router of the experts"),
    (Part("ffn_gate_tid2eid.weight"), "table from tokens to experts"),
    (Part("altup"), "small (altup)"),
    (Part("laurel"), "small (laurel)"),
    (Part("per_layer_model_proj"), "small (per-layer projection)"),
    (Whole("position_embd.weight"), "position embedding"),
    (Whole("token_types.weight"), "token type embedding"),
    (Part("ssm_conv1d"), "small convolution"),
    (Part("shortconv.conv.weight"), "small convolution"),
    (Part("indexer.k_proj.weight"), "small (indexer)"),
    (Part("indexer.q_proj.weight"), "small (indexer)"),
    (Part("time_mix_first.weight"), "small (time mix)"),
    (Part("time_mix_w0.weight"), "small (time mix)"),
    (Part("time_mix_w1.weight"), "small (time mix)"),
    (Part("time_mix_w2.weight"), "small (time mix)"),
    (Part("time_mix_v0.weight"), "small (time mix)"),
    (Part("time_mix_v1.weight"), "small (time mix)"),
    (Part("time_mix_v2.weight"), "small (time mix)"),
    (Part("time_mix_a0.weight"), "small (time mix)"),
    (Part("time_mix_a1.weight"), "small (time mix)"),
    (Part("time_mix_a2.weight"), "small (time mix)"),
    (Part("time_mix_g1.weight"), "small (time mix)"),
    (Part("time_mix_g2.weight"), "small (time mix)"),
    (Part("time_mix_decay_w1.weight"), "small (time mix)"),
    (Part("time_mix_decay_w2.weight"), "small (time mix)"),
    (Part("time_mix_lerp_fused.weight"), "small (time mix)"),
    (Part("attn_rel_b.weight"), "relative position bias"),
    (Part(".position_embd"), "position embedding of another modality"),
    (Part("sam.pos_embd"), "position embedding of another modality"),
    (Part("sam.neck."), "part of an image encoder"),
    (Part("sam.net_"), "part of an image encoder"),
    (Part(".rel_pos"), "part of an image encoder"),
    (Part(".patch_embd"), "part of an image encoder"),
    (Part(".patch_merger"), "part of an image encoder"),
    (Part("a.rvq.codebook"), "codebook of an audio encoder"),
    (Part("mm.a.code_embd"), "codebook of an audio encoder"),
];

/// And these in the architecture glm5-next.
const NEVER_QUANTIZED_IN_GLM5_NEXT: &[(Match, &str)] = &[
    (Part("hc_"), "small (hyper-connections)"),
    (Part("indexer.attn_q_b"), "small (indexer)"),
    (Part("indexer.attn_k"), "small (indexer)"),
    (Part("indexer.proj"), "small (indexer)"),
    (Part("indexer_compressor_gate"), "small (indexer)"),
    (Part("indexer_compressor_ape"), "small (indexer)"),
    (Part("ssm_f_a.weight"), "small (state space)"),
    (Part("ssm_f_b.weight"), "small (state space)"),
    (Part("ssm_g_a.weight"), "small (state space)"),
    (Part("ssm_g_b.weight"), "small (state space)"),
    (Part("ssm_beta.weight"), "small (state space)"),
    (Part("attn_kv_a_mqa.weight"), "compressed keys and values"),
    (Part("attn_k_b.weight"), "compressed keys"),
    (Part("attn_v_b.weight"), "compressed values"),
];

/// llama.cpp's converter writes these as F32 whatever was asked for (`prepare_tensors` in conversion/base.py, b11434; those
/// of language models). Names stand without layer and `.weight`.
const F32_BY_CONVERTER: &[(&str, &str)] = &[
    ("ffn_gate_inp", "router of the experts"),
    ("ffn_gate_inp_shexp", "gate of the shared expert"),
    ("position_embd", "position embedding"),
    ("token_types", "token type embedding"),
    ("ssm_conv1d", "small convolution"),
    ("ssm_conv1d_q", "small convolution"),
    ("ssm_conv1d_k", "small convolution"),
    ("ssm_conv1d_v", "small convolution"),
    ("shortconv.conv", "small convolution"),
    ("time_mix_first", "small (time mix)"),
    ("time_mix_w1", "small (time mix)"),
    ("time_mix_w2", "small (time mix)"),
    ("time_mix_decay_w1", "small (time mix)"),
    ("time_mix_decay_w2", "small (time mix)"),
    ("time_mix_lerp_fused", "small (time mix)"),
    ("altup_correct_coef", "small (altup)"),
    ("altup_predict_coef", "small (altup)"),
    ("indexer.proj", "small (indexer)"),
];

/// Why llama-quantize leaves a tensor of this name and number of dimensions as it is, if it does.
pub(super) fn never_quantized(arch: &str, name: &str, n_dims: usize) -> Option<&'static str> {
    if n_dims < 2 {
        return Some("a single row");
    }
    if !name.ends_with("weight") {
        return Some("not a weight");
    }
    let fits = |m: &Match| match m {
        Part(text) => name.contains(text),
        Whole(text) => name == *text,
    };
    let of_arch = if arch == "glm5-next" { NEVER_QUANTIZED_IN_GLM5_NEXT } else { &[] };
    NEVER_QUANTIZED.iter().chain(of_arch).find(|(m, _)| fits(m)).map(|&(_, why)| why)
}

/// Why the converter writes a tensor of this name and number of dimensions as F32, if it does.
pub(super) fn f32_by_converter(name: &str, n_dims: usize) -> Option<&'static str> {
    if n_dims < 2 {
        return Some("a single row");
    }
    if name.ends_with("_norm.weight") {
        return Some("norm");
    }
    let Some(stem) = name.strip_suffix(".weight") else {
        return Some("not a weight");
    };
    let in_layer = || stem.strip_prefix("blk.").and_then(|s| s.split_once('.')).map(|(_, stem)| stem);
    let stem = in_layer().unwrap_or(stem);
    F32_BY_CONVERTER.iter().find(|(kept, _)| *kept == stem).map(|&(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tensors_are_kept_and_large_ones_are_not() {
        let check = |name, n_dims, quantizer, converter| {
            assert_eq!(never_quantized("llama", name, n_dims).is_some(), quantizer, "{name} by the quantizer");
            assert_eq!(f32_by_converter(name, n_dims).is_some(), converter, "{name} by the converter");
        };
        check("blk.0.attn_q.weight", 2, false, false);
        check("blk.0.ffn_down_exps.weight", 3, false, false);
        check("blk.0.attn_norm.weight", 1, true, true);
        check("blk.0.attn_q_norm.weight", 2, true, true);
        check("blk.0.attn_q.bias", 1, true, true);
        check("blk.0.ffn_up_exps.bias", 2, true, true);
        check("blk.7.ffn_gate_inp.weight", 2, true, true);
        check("position_embd.weight", 2, true, true);
        check("token_embd.weight", 2, false, false);
        check("blk.0.attn_rel_b.weight", 2, true, false);
        check("blk.0.ffn_gate_inp_shexp.weight", 2, false, true);
        check("blk.0.attn_k_b.weight", 2, false, false);
        assert!(never_quantized("glm5-next", "blk.0.attn_k_b.weight", 2).is_some());
    }
}
