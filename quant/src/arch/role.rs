//! Tensor roles: what a tensor is for, whichever architecture it stands in, and its name in a GGUF file.
//!
//! Absent: names in Hugging Face files, shapes and transforms (an [`super::ArchSpec`] gives those) and the choice of a
//! type for a role (`plan`).

/// What a tensor is for. The order of the variants is the order of a block's computation and carries no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // GGUF's own names; the table below gives them
pub enum Role {
    TokenEmbd,
    RopeFreqs,
    AttnNorm,
    AttnQ,
    AttnQBias,
    AttnK,
    AttnKBias,
    AttnV,
    AttnVBias,
    AttnOutput,
    AttnOutputBias,
    FfnNorm,
    FfnGate,
    FfnGateBias,
    FfnUp,
    FfnUpBias,
    FfnDown,
    FfnDownBias,
    OutputNorm,
    Output,
}

/// Role and GGUF name (gguf-py `TENSOR_NAMES` plus suffix); `{}` stands for the number of the block.
pub const ROLES: &[(Role, &str)] = &[
    (Role::TokenEmbd, "token_embd.weight"),
    (Role::RopeFreqs, "rope_freqs.weight"),
    (Role::AttnNorm, "blk.{}.attn_norm.weight"),
    (Role::AttnQ, "blk.{}.attn_q.weight"),
    (Role::AttnQBias, "blk.{}.attn_q.bias"),
    (Role::AttnK, "blk.{}.attn_k.weight"),
    (Role::AttnKBias, "blk.{}.attn_k.bias"),
    (Role::AttnV, "blk.{}.attn_v.weight"),
    (Role::AttnVBias, "blk.{}.attn_v.bias"),
    (Role::AttnOutput, "blk.{}.attn_output.weight"),
    (Role::AttnOutputBias, "blk.{}.attn_output.bias"),
    (Role::FfnNorm, "blk.{}.ffn_norm.weight"),
    (Role::FfnGate, "blk.{}.ffn_gate.weight"),
    (Role::FfnGateBias, "blk.{}.ffn_gate.bias"),
    (Role::FfnUp, "blk.{}.ffn_up.weight"),
    (Role::FfnUpBias, "blk.{}.ffn_up.bias"),
    (Role::FfnDown, "blk.{}.ffn_down.weight"),
    (Role::FfnDownBias, "blk.{}.ffn_down.bias"),
    (Role::OutputNorm, "output_norm.weight"),
    (Role::Output, "output.weight"),
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
        fill(self.pattern(), block)
    }

    /// The role and the block of a GGUF tensor name; `None` for a name that no role has.
    pub fn parse(name: &str) -> Option<(Self, Option<usize>)> {
        ROLES.iter().find_map(|&(role, pattern)| match_pattern(pattern, name).map(|block| (role, block)))
    }
}

/// `pattern` with its `{}`, if it has one, replaced by `block`.
pub(crate) fn fill(pattern: &str, block: usize) -> String {
    pattern.replacen("{}", &block.to_string(), 1)
}

/// Whether `name` is an instance of `pattern`, and of which block. Only plain decimal numbers count (`blk.01` is no block).
pub(crate) fn match_pattern(pattern: &str, name: &str) -> Option<Option<usize>> {
    let Some((before, after)) = pattern.split_once("{}") else {
        return (pattern == name).then_some(None);
    };
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    let block: usize = digits.parse().ok()?;
    (block.to_string() == digits).then_some(Some(block))
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
    fn every_role_is_named_once_and_reads_back() {
        for &(role, pattern) in ROLES {
            assert_eq!(ROLES.iter().filter(|(r, p)| *r == role || *p == pattern).count(), 1, "{pattern}");
            check(&role.gguf_name(7), Some((role, role.per_block().then_some(7))));
        }
    }
}
