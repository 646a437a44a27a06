//! The file types of llama-quantize as rows: what its `llama_tensor_get_type_impl` decides (src/llama-quant.cpp, b11434), each
//! rule one line, in the order in which they decide. Groups that several file types share stand once. What is absent: the
//! meaning of a condition (see `when`) and custom recipes (see `custom`).

use super::facts::Category;
use super::rule::Rule;
use super::when::LayerSpan::{First, Middle, MoreBits, Range};
use super::when::When;
use super::when::When::{Arch, Experts, Imatrix, Is70b, Layer, ManyExperts, NameHas, NotArch, SharedHeads, UnevenRow, Visit};
use crate::DType;
use Category::{AttnK, AttnOutput, AttnQ, AttnV, FfnDown, FfnGate, FfnUp, Output, TokenEmbd};
use DType::{
    BF16, F16, F32, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MXFP4, Q1_0, Q2_0, Q2_K, Q3_K, Q4_0,
    Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, TQ1_0, TQ2_0,
};

/// A row of [`FILE_TYPES`].
pub(super) struct FileType {
    /// As llama-quantize names it, in lower case.
    pub(super) name: &'static str,
    /// llama.cpp's `llama_ftype`.
    pub(super) ftype: u32,
    /// llama.cpp's `llama_ftype_get_default_type`.
    pub(super) default: DType,
    /// The rules, in groups; the first that fits decides.
    pub(super) mix: &'static [&'static [Rule]],
}

const fn row(name: &'static str, ftype: u32, default: DType, mix: &'static [&'static [Rule]]) -> FileType {
    FileType { name, ftype, default, mix }
}

const fn rule(on: Category, when: &'static [When], to: DType, why: &'static str) -> Rule {
    Rule::fixed(Some(on), when, to, why)
}

const fn any(when: &'static [When], to: DType, why: &'static str) -> Rule {
    Rule::fixed(None, when, to, why)
}

/// Names that stand for another file type.
pub(super) const ALIASES: [(&str, &str); 3] = [("q3_k", "q3_k_m"), ("q4_k", "q4_k_m"), ("q5_k", "q5_k_m")];

/// The row that copies every tensor as it is.
pub(super) const COPY: &str = "copy";

/// Every file type, from most to fewest bits.
pub(super) const FILE_TYPES: &[FileType] = &[
    row("f32", 0, F32, &[]),
    row("bf16", 32, BF16, &[]),
    row("f16", 1, F16, &[]),
    row(COPY, 0, F32, &[]),
    row("q8_0", 7, Q8_0, &[]),
    row("q6_k", 18, Q6_K, &[GLM5, HEAD, EIGHT]),
    row("q5_k_m", 17, Q5_K, &[GLM5, HEAD, EIGHT, FOR_Q5_K_M]),
    row("q5_k_s", 16, Q5_K, &[GLM5, HEAD, EIGHT]),
    row("q5_1", 9, Q5_1, &[GLM5, HEAD, EIGHT]),
    row("q5_0", 8, Q5_0, &[GLM5, HEAD, EIGHT, FOR_Q5_0]),
    row("q4_k_m", 15, Q4_K, &[GLM5, HEAD, EIGHT, FOR_Q4_K_M, EIGHT_OUTPUT]),
    row("q4_k_s", 14, Q4_K, &[GLM5, HEAD, EIGHT, FOR_Q4_K_S, EIGHT_OUTPUT]),
    row("q4_1", 3, Q4_1, &[GLM5, HEAD, EIGHT]),
    row("q4_0", 2, Q4_0, &[GLM5, HEAD, EIGHT, FOR_Q4_0]),
    row("iq4_nl", 25, IQ4_NL, &[GLM5, HEAD, EIGHT, FOR_IQ4, EIGHT_OUTPUT]),
    row("iq4_xs", 30, IQ4_XS, &[GLM5, HEAD, EIGHT, FOR_IQ4, EIGHT_OUTPUT]),
    row("mxfp4_moe", 38, MXFP4, &[GLM5, FOR_MXFP4_MOE]),
    row("q3_k_l", 13, Q3_K, &[GLM5, HEAD, EIGHT, FOR_Q3_K_L]),
    row("q3_k_m", 12, Q3_K, &[GLM5, HEAD, EIGHT, EIGHT_OUTPUT, FOR_Q3_K_M]),
    row("iq3_m", 27, IQ3_S, &[GLM5, HEAD, EIGHT, EIGHT_OUTPUT, FOR_IQ3_M]),
    row("iq3_s", 26, IQ3_S, &[GLM5, HEAD, EIGHT, SHARED_VALUES, EIGHT_OUTPUT]),
    row("q3_k_s", 11, Q3_K, &[GLM5, HEAD, EIGHT, FOR_Q3_K_S, EIGHT_OUTPUT]),
    row("iq3_xs", 22, IQ3_S, &[GLM5, HEAD, EIGHT, SHARED_VALUES, EIGHT_OUTPUT, FOR_IQ3_XS]),
    row("iq3_xxs", 23, IQ3_XXS, &[GLM5, HEAD_OF_LOW, EIGHT, SHARED_VALUES, EIGHT_OUTPUT, FOR_IQ3_XXS]),
    row("q2_k", 10, Q2_K, &[GLM5, HEAD, EIGHT, EIGHT_OUTPUT, FOR_Q2_K]),
    row("q2_k_s", 21, Q2_K, &[GLM5, HEAD, EIGHT, SHARED_VALUES, FOR_Q2_K_S]),
    row("iq2_m", 29, IQ2_S, &[GLM5, HEAD_OF_LOW, LOW, LOW_IN_IQ3_S]),
    row("iq2_s", 28, IQ2_XS, &[GLM5, HEAD_OF_LOW, LOW, LOW_IN_IQ3_S]),
    row("iq2_xs", 20, IQ2_XS, &[GLM5, HEAD_OF_LOW, LOW, LOW_IN_Q2_K]),
    row("iq2_xxs", 19, IQ2_XXS, &[GLM5, HEAD_OF_LOW, LOW, LOW_IN_Q2_K]),
    row("q2_0", 41, Q2_0, &[GLM5, HEAD, TERNARY_EMBEDDING, EIGHT]),
    row("tq2_0", 37, TQ2_0, &[GLM5, HEAD, TERNARY_EMBEDDING, EIGHT]),
    row("iq1_m", 31, IQ1_M, &[GLM5, HEAD_OF_LOW, LOW, LOW_IN_Q2_K, IQ1_OUTPUT]),
    row("tq1_0", 36, TQ1_0, &[GLM5, HEAD, TERNARY_EMBEDDING, EIGHT]),
    row("iq1_s", 24, IQ1_S, &[GLM5, HEAD_OF_LOW, LOW, LOW_IN_Q2_K, IQ1_OUTPUT]),
    row("q1_0", 40, Q1_0, &[GLM5, HEAD, EIGHT]),
];

/// What llama.cpp never takes below Q8_0 in one architecture.
const GLM5: &[Rule] = &[
    any(&[Arch("glm5-next"), NameHas("attn_q_a")], Q8_0, "query compression of a glm5-next"),
    any(&[Arch("glm5-next"), NameHas("attn_q_b")], Q8_0, "query compression of a glm5-next"),
    any(&[Arch("glm5-next"), NameHas("nextn.eh_proj")], Q8_0, "next-token projection of a glm5-next"),
];

/// The head matters more than any other tensor of its size.
const HEAD: &[Rule] = &[
    rule(Output, &[Arch("falcon")], Q8_0, "head of a falcon"),
    rule(Output, &[UnevenRow], Q8_0, "head whose rows are not whole blocks"),
    rule(Output, &[], Q6_K, "head"),
];

/// The same, for the file types of few bits.
const HEAD_OF_LOW: &[Rule] = &[
    rule(Output, &[Arch("falcon")], Q8_0, "head of a falcon"),
    rule(Output, &[UnevenRow], Q8_0, "head whose rows are not whole blocks"),
    rule(Output, &[], Q5_K, "head"),
];

/// Keys and values are a small part of a model with eight experts.
const EIGHT: &[Rule] = &[
    rule(AttnV, &[Experts(8)], Q8_0, "values of a model with 8 experts"),
    rule(AttnK, &[Experts(8)], Q8_0, "keys of a model with 8 experts"),
];

/// So is the output of attention.
const EIGHT_OUTPUT: &[Rule] =
    &[rule(AttnOutput, &[NotArch("falcon"), Experts(8)], Q5_K, "attention output of a model with 8 experts")];

const VALUES_OF_70B: &str = "values of a 70B, shared by 8 heads";
const SHARED: &str = "values shared by 4 or more heads";

/// Values that many heads share are small and used often.
const SHARED_VALUES: &[Rule] =
    &[rule(AttnV, &[Is70b, SharedHeads(4)], Q5_K, VALUES_OF_70B), rule(AttnV, &[SharedHeads(4)], Q4_K, SHARED)];

const FOR_Q5_K_M: &[Rule] = &[
    rule(AttnV, &[Visit(MoreBits)], Q6_K, "values of a layer that gets more bits"),
    rule(FfnDown, &[Layer(MoreBits)], Q6_K, "ffn_down of a layer that gets more bits"),
];

const FOR_Q5_0: &[Rule] =
    &[rule(FfnDown, &[Imatrix(true), Layer(First(8))], Q5_1, "ffn_down of the first layers, with an importance matrix")];

const FOR_Q4_0: &[Rule] =
    &[rule(FfnDown, &[Imatrix(true), Layer(First(8))], Q4_1, "ffn_down of the first layers, with an importance matrix")];

const FOR_Q4_K_M: &[Rule] = &[
    rule(AttnV, &[Visit(MoreBits)], Q6_K, "values of a layer that gets more bits"),
    rule(AttnV, &[Is70b], Q5_K, VALUES_OF_70B),
    rule(FfnDown, &[Arch("falcon"), Layer(First(16))], Q6_K, "ffn_down of a falcon's first layers"),
    rule(FfnDown, &[Arch("falcon"), Layer(MoreBits)], Q5_K, "ffn_down of a falcon's layer that gets more bits"),
    rule(FfnDown, &[NotArch("falcon"), Layer(MoreBits)], Q6_K, "ffn_down of a layer that gets more bits"),
];

const FOR_Q4_K_S: &[Rule] = &[
    rule(AttnV, &[Visit(Range(0, 3))], Q5_K, "values of the first 4 layers"),
    rule(AttnV, &[Is70b], Q5_K, VALUES_OF_70B),
    rule(FfnDown, &[NotArch("falcon"), Layer(First(8))], Q5_K, "ffn_down of the first layers"),
];

const FOR_IQ4: &[Rule] = &[
    rule(AttnV, &[SharedHeads(4)], Q5_K, SHARED),
    rule(FfnDown, &[Imatrix(false), Layer(First(8))], Q5_K, "ffn_down of the first layers, without an importance matrix"),
];

/// As llama.cpp has it since b12032: experts are told by their names. Until then every stacked matrix was one, those of
/// latent attention too.
const FOR_MXFP4_MOE: &[Rule] = &[
    rule(Output, &[], Q8_0, "head"),
    any(&[NameHas("_exps.")], MXFP4, "experts"),
    any(&[NameHas("_chexps.")], MXFP4, "experts"),
    any(&[], Q8_0, "not of the experts"),
];

const FOR_Q3_K_L: &[Rule] = &[
    rule(AttnV, &[], Q5_K, "values"),
    rule(FfnDown, &[Arch("falcon")], Q4_K, "ffn_down of a falcon"),
    rule(FfnDown, &[], Q5_K, "ffn_down"),
    rule(AttnOutput, &[Arch("falcon")], Q4_K, "attention output of a falcon"),
    rule(AttnOutput, &[Experts(8)], Q3_K, "attention output of a model with 8 experts"),
    rule(AttnOutput, &[], Q5_K, "attention output"),
];

const FOR_Q3_K_M: &[Rule] = &[
    rule(AttnV, &[Visit(Range(0, 1))], Q5_K, "values of the first 2 layers"),
    rule(AttnV, &[Is70b], Q5_K, VALUES_OF_70B),
    rule(AttnV, &[], Q4_K, "values"),
    rule(FfnDown, &[Layer(First(16))], Q5_K, "ffn_down of the first layers"),
    rule(FfnDown, &[NotArch("falcon")], Q4_K, "ffn_down"),
    rule(FfnDown, &[Layer(MoreBits)], Q4_K, "ffn_down of a falcon's layer that gets more bits"),
    rule(AttnOutput, &[NotArch("falcon")], Q4_K, "attention output"),
];

const FOR_Q3_K_S: &[Rule] = &[rule(AttnV, &[Is70b], Q5_K, VALUES_OF_70B)];

const FOR_IQ3_M: &[Rule] = &[
    rule(AttnV, &[Is70b], Q5_K, VALUES_OF_70B),
    rule(AttnV, &[], Q4_K, "values"),
    rule(FfnDown, &[Layer(First(8))], Q4_K, "ffn_down of the first layers"),
    rule(FfnDown, &[Experts(8), Layer(MoreBits)], Q4_K, "ffn_down of a layer that gets more bits, of 8 experts"),
    rule(AttnOutput, &[NotArch("falcon")], Q4_K, "attention output"),
];

const FOR_IQ3_XS: &[Rule] = &[
    rule(AttnK, &[], IQ3_XXS, "keys"),
    rule(AttnQ, &[], IQ3_XXS, "queries"),
    rule(FfnGate, &[Layer(Middle(8))], IQ3_XXS, "ffn_gate of the middle layers"),
    rule(FfnUp, &[Layer(Middle(8))], IQ3_XXS, "ffn_up of the middle layers"),
];

const FOR_IQ3_XXS: &[Rule] = &[
    rule(TokenEmbd, &[], IQ3_S, "token embedding"),
    rule(AttnV, &[Imatrix(false)], IQ3_S, "values, without an importance matrix"),
    rule(AttnK, &[], IQ2_S, "keys"),
    rule(AttnQ, &[], IQ2_S, "queries"),
    rule(FfnDown, &[Imatrix(false), Layer(First(8))], Q4_K, "ffn_down of the first layers, without an importance matrix"),
    rule(FfnDown, &[Imatrix(false)], Q3_K, "ffn_down, without an importance matrix"),
    rule(AttnOutput, &[NotArch("falcon")], IQ3_S, "attention output"),
];

const FOR_Q2_K: &[Rule] = &[
    rule(AttnV, &[Is70b], Q5_K, VALUES_OF_70B),
    rule(AttnV, &[SharedHeads(4)], Q4_K, SHARED),
    rule(AttnV, &[], Q3_K, "values"),
    rule(FfnDown, &[], Q3_K, "ffn_down"),
    rule(AttnOutput, &[NotArch("falcon")], Q3_K, "attention output"),
];

const FOR_Q2_K_S: &[Rule] = &[rule(FfnDown, &[Layer(First(8))], Q4_K, "ffn_down of the first layers")];

/// Below 3 bits llama-quantize follows rules of their own, which count ffn_down as it comes, experts or not.
const LOW: &[Rule] = &[
    rule(AttnV, &[SharedHeads(4)], Q4_K, SHARED),
    rule(AttnV, &[ManyExperts(4)], Q4_K, "values of a model with 4 or more experts"),
    rule(AttnK, &[Experts(8)], Q4_K, "keys of a model with 8 experts"),
    rule(AttnOutput, &[Experts(8)], Q5_K, "attention output of a model with 8 experts"),
];

const LOW_IN_IQ3_S: &[Rule] = &[
    rule(TokenEmbd, &[], IQ3_S, "token embedding"),
    rule(AttnV, &[], IQ3_S, "values"),
    rule(FfnDown, &[Visit(First(8))], IQ3_S, "ffn_down of the first layers"),
    rule(AttnOutput, &[], IQ3_S, "attention output"),
];

const LOW_IN_Q2_K: &[Rule] = &[
    rule(TokenEmbd, &[], Q2_K, "token embedding"),
    rule(AttnV, &[], Q2_K, "values"),
    rule(FfnDown, &[Visit(First(8))], Q2_K, "ffn_down of the first layers"),
];

const IQ1_OUTPUT: &[Rule] = &[rule(AttnOutput, &[], IQ2_XXS, "attention output")];

const TERNARY_EMBEDDING: &[Rule] = &[rule(TokenEmbd, &[], Q4_K, "token embedding")];
