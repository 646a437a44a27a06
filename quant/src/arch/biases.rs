//! Biases that many architectures have where a key of `config.json` says so: their tensors, and the keys.

use super::rule::optional;
use super::{Dim, Role, Stated, TensorRule, Transform};

/// `attention_bias`, where it is of queries, keys, values and the output.
pub(super) const ATTENTION_BIAS: Stated = Stated {
    key: "attention_bias",
    default: false,
    roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias, Role::AttnOutputBias],
};

/// `mlp_bias`.
pub(super) const MLP_BIAS: Stated =
    Stated { key: "mlp_bias", default: false, roles: &[Role::FfnGateBias, Role::FfnUpBias, Role::FfnDownBias] };

/// What `attention_bias` says to be there.
pub(super) const ATTENTION_BIASES: [TensorRule; 4] = [
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
];

/// The matrix that a bias of attention is of: a block without the matrix, as one that has no attention, has no bias of it.
pub(crate) fn matrix_of(bias: Role) -> Option<Role> {
    match bias {
        Role::AttnQBias => Some(Role::AttnQ),
        Role::AttnKBias => Some(Role::AttnK),
        Role::AttnVBias => Some(Role::AttnV),
        Role::AttnOutputBias => Some(Role::AttnOutput),
        Role::AttnQABias => Some(Role::AttnQA),
        Role::AttnKvAMqaBias => Some(Role::AttnKvAMqa),
        _ => None,
    }
}

/// The same with the halves of query and key heads interleaved.
pub(super) const INTERLEAVED_BIASES: [TensorRule; 4] = [
    TensorRule { transform: Transform::InterleaveQueryHeads, ..ATTENTION_BIASES[0] },
    TensorRule { transform: Transform::InterleaveKeyHeads, ..ATTENTION_BIASES[1] },
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
];

/// What `mlp_bias` says to be there.
pub(super) const MLP_BIASES: [TensorRule; 3] = [
    optional(Role::FfnGateBias, "model.layers.{}.mlp.gate_proj.bias", &[Dim::FeedForward]),
    optional(Role::FfnUpBias, "model.layers.{}.mlp.up_proj.bias", &[Dim::FeedForward]),
    optional(Role::FfnDownBias, "model.layers.{}.mlp.down_proj.bias", &[Dim::Embd]),
];
