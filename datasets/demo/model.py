"""The demo model in PyTorch: a Llama whose parameters bear the names of Hugging Face's checkpoints, so that its state is the
checkpoint. For training and as a referee; it knows nothing of caches, masks or batches of different lengths."""

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "vocab_size": 1280, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None, "hidden_act": "silu", "attention_bias": False,
    "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True, "initializer_range": 0.02,
    "bos_token_id": 0, "eos_token_id": 0, "use_cache": True,
}


class Norm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config["hidden_size"]))
        self.eps = config["rms_norm_eps"]

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, self.dim = config["hidden_size"], config["head_dim"]
        self.q_proj = nn.Linear(width, config["num_attention_heads"] * self.dim, bias=False)
        self.k_proj = nn.Linear(width, config["num_key_value_heads"] * self.dim, bias=False)
        self.v_proj = nn.Linear(width, config["num_key_value_heads"] * self.dim, bias=False)
        self.o_proj = nn.Linear(config["num_attention_heads"] * self.dim, width, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q, k, v = (p(x).view(batch, length, -1, self.dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (t * cos + torch.cat((-t[..., self.dim // 2:], t[..., :self.dim // 2]), -1) * sin for t in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(config), Attention(config)
        self.post_attention_layernorm, self.mlp = Norm(config), Mlp(config)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = Norm(config)


class Llama(nn.Module):
    """ids [batch, length] -> logits [batch, length, vocabulary], float32. The embedding is the output matrix too."""

    def __init__(self, config=None):
        super().__init__()
        self.config = config or CONFIG
        self.model = Body(self.config)
        half = self.config["head_dim"] // 2
        turn = torch.arange(self.config["max_position_embeddings"])[:, None] * \
            self.config["rope_theta"] ** (-torch.arange(half).float() / half)
        self.register_buffer("cos", turn.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", turn.sin().repeat(1, 2), persistent=False)

    def forward(self, ids):
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)
