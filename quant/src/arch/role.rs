//! Tensor roles: what a tensor is for, whichever architecture it stands in, and its name in a GGUF file.
//!
//! Absent: names in Hugging Face files, shapes and transforms (an [`super::ArchSpec`] gives those) and the choice of a
//! type for a role (`plan`).

/// What a tensor is for. The order of the variants is the order of a block's computation and carries no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // GGUF's own names; the table below gives them
pub enum Role {
    TokenEmbd,
    TokenEmbdNorm,
    PerLayerTokenEmbd,
    PerLayerModelProj,
    PerLayerProjNorm,
    PositionEmbd,
    RopeFreqs,
    RopeFactorsLong,
    RopeFactorsShort,
    AttnNorm,
    AttnNormBias,
    AttnQkv,
    AttnQkvBias,
    AttnQ,
    AttnQBias,
    AttnQNorm,
    AttnQA,
    AttnQABias,
    AttnQANorm,
    AttnQB,
    AttnK,
    AttnKBias,
    AttnKNorm,
    AttnKvAMqa,
    AttnKvAMqaBias,
    AttnKvANorm,
    AttnKB,
    AttnV,
    AttnVBias,
    AttnVB,
    AttnSinks,
    AttnOutput,
    AttnOutputBias,
    AttnGate,
    SsmIn,
    SsmConv1d,
    SsmConv1dBias,
    SsmDtBias,
    SsmA,
    SsmD,
    SsmAlpha,
    SsmBeta,
    SsmBa,
    SsmNorm,
    SsmOut,
    ShortConv,
    ShortConvIn,
    ShortConvOut,
    AttnPostNorm,
    FfnNorm,
    FfnNormUnsuffixed,
    FfnNormBias,
    FfnGateInp,
    FfnGateInpBias,
    FfnGateInpScale,
    ExpProbsBias,
    FfnGate,
    FfnGateBias,
    FfnUp,
    FfnUpBias,
    FfnDown,
    FfnDownBias,
    FfnGateExps,
    FfnGateExpsBias,
    FfnUpExps,
    FfnUpExpsBias,
    FfnDownExps,
    FfnDownExpsBias,
    FfnDownExpsScale,
    FfnGateUpExps,
    FfnLatentDown,
    FfnLatentUp,
    FfnGateInpShexp,
    FfnGateShexp,
    FfnUpShexp,
    FfnDownShexp,
    FfnPostNorm,
    FfnPreNorm2,
    FfnPostNorm1,
    FfnPostNorm2,
    InpGate,
    Proj,
    PostNorm,
    LayerOutputScale,
    NextnEhProj,
    NextnEmbedTokens,
    NextnEnorm,
    NextnHnorm,
    NextnSharedHeadHead,
    NextnSharedHeadNorm,
    OutputNorm,
    OutputNormBias,
    Output,
    OutputBias,
}

/// Role and GGUF name (gguf-py `TENSOR_NAMES` plus suffix); `{}` stands for the number of the block.
pub const ROLES: &[(Role, &str)] = &[
    (Role::TokenEmbd, "token_embd.weight"),
    (Role::TokenEmbdNorm, "token_embd_norm.weight"),
    (Role::PerLayerTokenEmbd, "per_layer_token_embd.weight"),
    (Role::PerLayerModelProj, "per_layer_model_proj.weight"),
    (Role::PerLayerProjNorm, "per_layer_proj_norm.weight"),
    (Role::PositionEmbd, "position_embd.weight"),
    (Role::RopeFreqs, "rope_freqs.weight"),
    (Role::RopeFactorsLong, "rope_factors_long.weight"),
    (Role::RopeFactorsShort, "rope_factors_short.weight"),
    (Role::AttnNorm, "blk.{}.attn_norm.weight"),
    (Role::AttnNormBias, "blk.{}.attn_norm.bias"),
    (Role::AttnQkv, "blk.{}.attn_qkv.weight"),
    (Role::AttnQkvBias, "blk.{}.attn_qkv.bias"),
    (Role::AttnQ, "blk.{}.attn_q.weight"),
    (Role::AttnQBias, "blk.{}.attn_q.bias"),
    (Role::AttnQNorm, "blk.{}.attn_q_norm.weight"),
    (Role::AttnQA, "blk.{}.attn_q_a.weight"),
    (Role::AttnQABias, "blk.{}.attn_q_a.bias"),
    (Role::AttnQANorm, "blk.{}.attn_q_a_norm.weight"),
    (Role::AttnQB, "blk.{}.attn_q_b.weight"),
    (Role::AttnK, "blk.{}.attn_k.weight"),
    (Role::AttnKBias, "blk.{}.attn_k.bias"),
    (Role::AttnKNorm, "blk.{}.attn_k_norm.weight"),
    (Role::AttnKvAMqa, "blk.{}.attn_kv_a_mqa.weight"),
    (Role::AttnKvAMqaBias, "blk.{}.attn_kv_a_mqa.bias"),
    (Role::AttnKvANorm, "blk.{}.attn_kv_a_norm.weight"),
    (Role::AttnKB, "blk.{}.attn_k_b.weight"),
    (Role::AttnV, "blk.{}.attn_v.weight"),
    (Role::AttnVBias, "blk.{}.attn_v.bias"),
    (Role::AttnVB, "blk.{}.attn_v_b.weight"),
    (Role::AttnSinks, "blk.{}.attn_sinks.weight"),
    (Role::AttnOutput, "blk.{}.attn_output.weight"),
    (Role::AttnOutputBias, "blk.{}.attn_output.bias"),
    (Role::AttnGate, "blk.{}.attn_gate.weight"),
    (Role::SsmIn, "blk.{}.ssm_in.weight"),
    (Role::SsmConv1d, "blk.{}.ssm_conv1d.weight"),
    (Role::SsmConv1dBias, "blk.{}.ssm_conv1d.bias"),
    (Role::SsmDtBias, "blk.{}.ssm_dt.bias"),
    (Role::SsmA, "blk.{}.ssm_a"),
    (Role::SsmD, "blk.{}.ssm_d"),
    (Role::SsmAlpha, "blk.{}.ssm_alpha.weight"),
    (Role::SsmBeta, "blk.{}.ssm_beta.weight"),
    (Role::SsmBa, "blk.{}.ssm_ba.weight"),
    (Role::SsmNorm, "blk.{}.ssm_norm.weight"),
    (Role::SsmOut, "blk.{}.ssm_out.weight"),
    (Role::ShortConv, "blk.{}.shortconv.conv.weight"),
    (Role::ShortConvIn, "blk.{}.shortconv.in_proj.weight"),
    (Role::ShortConvOut, "blk.{}.shortconv.out_proj.weight"),
    (Role::AttnPostNorm, "blk.{}.post_attention_norm.weight"),
    (Role::FfnNorm, "blk.{}.ffn_norm.weight"),
    (Role::FfnNormUnsuffixed, "blk.{}.ffn_norm"),
    (Role::FfnNormBias, "blk.{}.ffn_norm.bias"),
    (Role::FfnGateInp, "blk.{}.ffn_gate_inp.weight"),
    (Role::FfnGateInpBias, "blk.{}.ffn_gate_inp.bias"),
    (Role::FfnGateInpScale, "blk.{}.ffn_gate_inp.scale"),
    (Role::ExpProbsBias, "blk.{}.exp_probs_b.bias"),
    (Role::FfnGate, "blk.{}.ffn_gate.weight"),
    (Role::FfnGateBias, "blk.{}.ffn_gate.bias"),
    (Role::FfnUp, "blk.{}.ffn_up.weight"),
    (Role::FfnUpBias, "blk.{}.ffn_up.bias"),
    (Role::FfnDown, "blk.{}.ffn_down.weight"),
    (Role::FfnDownBias, "blk.{}.ffn_down.bias"),
    (Role::FfnGateExps, "blk.{}.ffn_gate_exps.weight"),
    (Role::FfnGateExpsBias, "blk.{}.ffn_gate_exps.bias"),
    (Role::FfnUpExps, "blk.{}.ffn_up_exps.weight"),
    (Role::FfnUpExpsBias, "blk.{}.ffn_up_exps.bias"),
    (Role::FfnDownExps, "blk.{}.ffn_down_exps.weight"),
    (Role::FfnDownExpsBias, "blk.{}.ffn_down_exps.bias"),
    (Role::FfnDownExpsScale, "blk.{}.ffn_down_exps.scale"),
    (Role::FfnGateUpExps, "blk.{}.ffn_gate_up_exps.weight"),
    (Role::FfnLatentDown, "blk.{}.ffn_latent_down.weight"),
    (Role::FfnLatentUp, "blk.{}.ffn_latent_up.weight"),
    (Role::FfnGateInpShexp, "blk.{}.ffn_gate_inp_shexp.weight"),
    (Role::FfnGateShexp, "blk.{}.ffn_gate_shexp.weight"),
    (Role::FfnUpShexp, "blk.{}.ffn_up_shexp.weight"),
    (Role::FfnDownShexp, "blk.{}.ffn_down_shexp.weight"),
    (Role::FfnPostNorm, "blk.{}.post_ffw_norm.weight"),
    (Role::FfnPreNorm2, "blk.{}.pre_ffw_norm_2.weight"),
    (Role::FfnPostNorm1, "blk.{}.post_ffw_norm_1.weight"),
    (Role::FfnPostNorm2, "blk.{}.post_ffw_norm_2.weight"),
    (Role::InpGate, "blk.{}.inp_gate.weight"),
    (Role::Proj, "blk.{}.proj.weight"),
    (Role::PostNorm, "blk.{}.post_norm.weight"),
    (Role::LayerOutputScale, "blk.{}.layer_output_scale.weight"),
    (Role::NextnEhProj, "blk.{}.nextn.eh_proj.weight"),
    (Role::NextnEmbedTokens, "blk.{}.nextn.embed_tokens.weight"),
    (Role::NextnEnorm, "blk.{}.nextn.enorm.weight"),
    (Role::NextnHnorm, "blk.{}.nextn.hnorm.weight"),
    (Role::NextnSharedHeadHead, "blk.{}.nextn.shared_head_head.weight"),
    (Role::NextnSharedHeadNorm, "blk.{}.nextn.shared_head_norm.weight"),
    (Role::OutputNorm, "output_norm.weight"),
    (Role::OutputNormBias, "output_norm.bias"),
    (Role::Output, "output.weight"),
    (Role::OutputBias, "output.bias"),
];

impl Role {
    /// The GGUF name pattern of the role, `{}` for the block.
    pub fn pattern(self) -> &'static str {
        ROLES.iter().find(|(role, _)| *role == self).map_or("", |(_, pattern)| pattern)
    }

    /// Whether every block has its own tensor of this role.
    pub fn per_block(self) -> bool {
        self.pattern().contains("{}")
    }

    /// The GGUF name, as `blk.3.attn_q.weight`; `block` does not matter to roles that exist once.
    pub fn gguf_name(self, block: usize) -> String {
        fill(self.pattern(), &[block])
    }

    /// The role and the block of a GGUF tensor name; `None` for a name that no role has.
    pub fn parse(name: &str) -> Option<(Self, Option<usize>)> {
        ROLES.iter().find_map(|&(role, pattern)| match_pattern(pattern, name).map(|found| (role, found.block)))
    }
}

/// `pattern` with each `{}` replaced by the next of `numbers`.
pub(crate) fn fill(pattern: &str, numbers: &[usize]) -> String {
    numbers.iter().fold(pattern.to_owned(), |name, number| name.replacen("{}", &number.to_string(), 1))
}

/// The numbers that stand for the `{}` of a pattern in a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// For the first.
    pub(crate) block: Option<usize>,
    /// For the second.
    pub(crate) part: Option<usize>,
}

/// Whether `name` is an instance of `pattern`, and with which numbers. Only plain decimal numbers count (`blk.01` is no
/// block).
pub(crate) fn match_pattern(pattern: &str, name: &str) -> Option<Numbers> {
    let mut pieces = pattern.split("{}");
    let mut rest = name.strip_prefix(pieces.next()?)?;
    let mut numbers = [None; 2];
    for (piece, number) in pieces.zip(&mut numbers) {
        let digits = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
        let value: usize = digits.parse().ok()?;
        if value.to_string() != digits {
            return None;
        }
        *number = Some(value);
        rest = rest[digits.len()..].strip_prefix(piece)?;
    }
    let [block, part] = numbers;
    rest.is_empty().then_some(Numbers { block, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<(Role, Option<usize>)>) {
        assert_eq!(Role::parse(name), expected, "{name}");
    }

    #[test]
    fn a_gguf_name_gives_its_role_and_block() {
        check("token_embd.weight", Some((Role::TokenEmbd, None)));
        check("blk.17.attn_q.weight", Some((Role::AttnQ, Some(17))));
        check("blk.0.ffn_down.bias", Some((Role::FfnDownBias, Some(0))));
    }

    #[test]
    fn a_name_outside_the_table_has_no_role() {
        for name in ["blk.attn_q.weight", "blk.01.attn_q.weight", "blk.-1.attn_q.weight", "blk.+1.attn_q.weight", "attn_q", ""] {
            check(name, None);
        }
        check("blk.99999999999999999999999.attn_q.weight", None);
    }

    #[test]
    fn a_pattern_with_two_numbers_gives_both() {
        let pattern = "layers.{}.experts.{}.w1";
        let found = match_pattern(pattern, "layers.3.experts.12.w1").unwrap();
        assert_eq!((found.block, found.part), (Some(3), Some(12)));
        assert_eq!(fill(pattern, &[3, 12]), "layers.3.experts.12.w1");
        for name in ["layers.3.experts.012.w1", "layers.3.experts.w1", "layers.3.experts.12.w2", "layers.3.experts.12.w1.x"] {
            assert_eq!(match_pattern(pattern, name), None, "{name}");
        }
    }

    #[test]
    fn every_role_is_named_once_and_reads_back() {
        for &(role, pattern) in ROLES {
            assert_eq!(ROLES.iter().filter(|(r, p)| *r == role || *p == pattern).count(), 1, "{pattern}");
            check(&role.gguf_name(7), Some((role, role.per_block().then_some(7))));
        }
    }
}
