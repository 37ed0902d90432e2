"""Kunlun in PyTorch, as small as it can be: what our training step is timed against.

The parameters have the names and values of our own model (`TorchKunlun.of`), and a test holds the
logits of both against each other, so operations, wiring and sizes are equal by construction. It
knows what `benchmarks/torch_twin.py` needs: full histories, one value a sparse feature, tables as
wide as the model, GDPA, HSP with SumKron, window attention with ROTE, a partition of the experts.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict
from torch import nn
from torch.nn import functional

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.data import Batch, Schema
from kunlun_jax.layers.comp_skip import stream_schedule
from kunlun_jax.tables.layout import row_of

Tensor = torch.Tensor
TensorBatch = dict[str, Any]
Rows = dict[str | None, dict[str, Tensor]]  # by stream (None: context) and feature
_EPSILON = 1e-5


def tensors(batch: Batch) -> TensorBatch:
    """Return a batch as tensors."""

    def tensor(x: Any, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.array(x)).to(dtype)

    return {
        "dense": tensor(batch.dense, torch.float32),
        "labels": tensor(batch.labels, torch.float32),
        "sparse": {n: tensor(s.ids[:, 0], torch.int64) for n, s in batch.sparse.items()},
        "streams": {
            name: {
                "ids": {n: tensor(ids, torch.int64) for n, ids in events.ids.items()},
                "dense": tensor(events.dense, torch.float32),
                "ages": tensor(events.ages, torch.float32),
                "matches": {n: tensor(x, torch.float32) for n, x in events.matches.items()},
            }
            for name, events in batch.streams.items()
        },
    }


class TorchKunlun(nn.Module):
    """The model. Parameters are named as ours are, such as "layer_0/view_pffn/gain"."""

    def __init__(
        self, model: ModelConfig, schema: Schema, params: Mapping[str, Tensor], tables: Any
    ) -> None:
        """Hold parameters and tables; `of` makes them from ours."""
        super().__init__()
        self.model, self.schema = model, schema
        self.p = nn.ParameterDict({k: nn.Parameter(v) for k, v in params.items()})
        self.tables = nn.ModuleDict(
            {name: nn.Embedding.from_pretrained(t, freeze=False, sparse=True)
             for name, t in tables.items()}
        )  # fmt: skip

    @classmethod
    def of(cls, model: ModelConfig, schema: Schema, params: Any, tables: Any) -> "TorchKunlun":
        """Return the twin of a Flax model with these parameters and tables.

        Args:
            model: The model's configuration.
            schema: The data set's schema.
            params: Nested parameters.
            tables: By vocabulary, as they are stored; the twin's rows are in the order of the ids.
        """
        flat: dict[str, Any] = dict(flatten_dict(params, sep="/"))
        rows = {v.name: row_of(jnp.arange(v.num_rows), v.num_rows) for v in schema.vocabularies}
        return cls(
            model,
            schema,
            {name: torch.from_numpy(np.array(value)) for name, value in flat.items()},
            {n: torch.from_numpy(np.array(t[np.asarray(rows[n])])) for n, t in tables.items()},
        )

    def forward(self, batch: TensorBatch) -> Tensor:
        """Return the logits, [B, L]."""
        return self.logits(batch, self.look_up(batch))

    def look_up(self, batch: TensorBatch) -> Rows:
        """Return rows of the tables by feature, under None those of the context.

        Their gradients are sparse, which torch.compile does not know: it takes `logits` alone.
        """
        rows: Rows = {None: {}}
        for feature in self.schema.sparse:
            rows[None][feature.name] = self.tables[feature.vocabulary](
                batch["sparse"][feature.name]
            )
        for stream in self.model.streams:
            ids = batch["streams"][stream.name]["ids"]
            rows[stream.name] = {
                feature.name: self.tables[feature.vocabulary](ids[feature.name])
                for feature in self.schema.stream_by_name[stream.name].ids
            }
        return rows

    def logits(self, batch: TensorBatch, rows: Rows) -> Tensor:
        """Return the logits, [B, L].

        Args:
            batch: The batch.
            rows: What `look_up` gave.
        """
        model = self.model
        tokens = self._context(batch, rows[None])
        events = {
            s.name: self._encode(s, batch["streams"][s.name], rows[s.name]) for s in model.streams
        }
        schedules = {s.name: stream_schedule(s, model) for s in model.streams}
        pooled: dict[str, Tensor] = {}
        for index in range(model.num_layers):
            layer = f"layer_{index}"
            summary = None
            if any(schedule[index].pffn for schedule in schedules.values()):
                summary = self._summary(f"{layer}/weight_generation", tokens)
            for stream in model.streams:
                name, step = stream.name, schedules[stream.name][index]
                if step.pffn:
                    events[name] = self._pffn(f"{layer}/{name}_pffn", stream, events[name], summary)
                if step.pooling:
                    pooled[name] = self._pool(f"{layer}/{name}_pooling", stream, events[name])
                if step.attention:
                    ages = batch["streams"][name]["ages"]
                    events[name] = self._attend(
                        f"{layer}/{name}_attention", stream, events[name], ages
                    )
            together = torch.cat([tokens, *(pooled[s.name] for s in model.streams)], dim=1)
            tokens = self._interact(f"{layer}/interaction", together)
        if model.pooling.final_pooling:
            for s in model.streams:
                pooled[s.name] = self._pool(f"{s.name}_final_pooling", s, events[s.name])
        together = torch.cat([tokens, *(pooled[s.name] for s in model.streams)], dim=1)
        return self._mlp("head/mlp", together.flatten(1), len(model.head_dims))

    def _dense(self, name: str, x: Tensor) -> Tensor:
        bias = self.p.get(f"{name}/bias", None)
        return functional.linear(x, self.p[f"{name}/kernel"].t(), bias)

    def _mlp(self, name: str, x: Tensor, num_hidden: int = 1) -> Tensor:
        for i in range(num_hidden):
            x = functional.gelu(self._dense(f"{name}/hidden_{i}", x), approximate="tanh")
        return self._dense(f"{name}/out", x)

    def _context(self, batch: TensorBatch, fields: dict[str, Tensor]) -> Tensor:
        tokens = [sum(fields[name] for name in self.schema.candidate)]
        if self.schema.dense:
            tokens.append(self._dense("context/dense", batch["dense"]))
        return torch.stack([*tokens, *fields.values()], dim=1)

    def _encode(
        self, stream: StreamConfig, history: TensorBatch, fields: dict[str, Tensor]
    ) -> Tensor:
        described, rows = self.schema.stream_by_name[stream.name], list(fields.values())
        age = torch.log1p(history["ages"] / self.model.rote.time_scale)[..., None]
        numbers = [history["dense"], age] if described.dense else [age]
        if self.model.match_attributes:
            shared = self.schema.shared_ids[stream.name]
            numbers += [history["matches"][key][..., None] for key in shared]
        name = f"{stream.name}_encoder"
        total = sum(rows)
        if f"{name}/projection/kernel" in self.p:
            total = self._dense(f"{name}/projection", total)
        return total + self._mlp(f"{name}/mlp", torch.cat([*rows, *numbers], dim=-1))

    def _summary(self, name: str, tokens: Tensor) -> Tensor:
        z = self.p[f"{name}/compress"] @ tokens
        z = z + self._mlp(f"{name}/mlp", z)
        return torch.sigmoid(self._dense(f"{name}/gate", z)) * z

    def _pffn(self, name: str, stream: StreamConfig, events: Tensor, summary: Any) -> Tensor:
        query = _layer_norm(events)
        keys, values = (
            self._dense(f"{name}/{kind}/projection", self.p[f"{name}/{kind}/slots"] @ summary)
            for kind in ("keys", "values")
        )
        values = values + self.p[f"{name}/values/markers"]
        q, k, v = (_heads(x, stream.num_heads) for x in (query, keys, values))
        gain = (self.p[f"{name}/gain"] / stream.max_len)[:, None, None]
        scores = (q @ _rms_norm(k).transpose(-1, -2)) * gain
        out = functional.gelu(scores, approximate="tanh") @ v
        return _rms_norm(out.transpose(1, 2).flatten(2) + query) + events

    def _attend(self, name: str, stream: StreamConfig, events: Tensor, ages: Tensor) -> Tensor:
        query, key, value = (
            _heads(x, stream.num_heads)
            for x in self._dense(f"{name}/qkv", _layer_norm(events)).chunk(3, dim=-1)
        )
        angles = self._angles(stream, ages)
        steps = torch.arange(events.shape[1])
        near = (steps[:, None] - steps[None, :]).abs() <= stream.window
        out = functional.scaled_dot_product_attention(
            _rotate(query, angles), _rotate(key, angles), value, attn_mask=near
        )
        return events + self._dense(f"{name}/out", out.transpose(1, 2).flatten(2))

    def _angles(self, stream: StreamConfig, ages: Tensor) -> Tensor:
        """Return the angles of adjacent gaps and positions, [B, 1, T, H/2]."""
        rote, width = self.model.rote, stream.head_dim
        before = torch.cat([ages[:, :1], ages[:, :-1]], dim=1)
        gaps = torch.log1p((before - ages).clamp(min=0) / rote.time_scale)
        exponents = -torch.arange(0, width, 2) / width
        positions = torch.arange(ages.shape[1], dtype=torch.float32)[:, None]
        angles = positions * rote.base**exponents + gaps[..., None] * rote.time_base**exponents
        return angles[:, None]

    def _pool(self, name: str, stream: StreamConfig, events: Tensor) -> Tensor:
        query = _heads(self._dense(f"{name}/query", _layer_norm(self.p[f"{name}/seeds"]))[None],
                       stream.num_heads)  # fmt: skip
        key, value = (
            _heads(x, stream.num_heads)
            for x in self._dense(f"{name}/key_value", _layer_norm(events)).chunk(2, dim=-1)
        )
        query = query.expand(events.shape[0], -1, -1, -1)
        pooled = functional.scaled_dot_product_attention(query, key, value)
        pooled = self._dense(f"{name}/out", pooled.transpose(1, 2).flatten(2))
        z, w = self.p[f"{name}/token_maps"], self.p[f"{name}/width_maps"]
        if _tokens_first(*z.shape[1:], *w.shape[1:]):
            mixed = torch.einsum("bpe,rpq->bqre", pooled, z)
            return torch.einsum("bqre,red->bqd", mixed, w)
        return torch.einsum("brpd,rpq->bqd", torch.einsum("bpe,red->brpd", pooled, w), z)

    def _interact(self, name: str, tokens: Tensor) -> Tensor:
        experts = self.model.wukong.num_experts
        tokens = torch.cat([tokens, tokens[:, : -tokens.shape[1] % experts]], dim=1)
        parts = tokens.unflatten(1, (-1, experts)).transpose(1, 2)  # in turn, [B, E, n, D]

        def mix(which: str) -> Tensor:
            return torch.einsum("bend,enm->bemd", parts, self.p[f"{name}/{which}"])

        def mlp(which: str, x: Tensor) -> Tensor:
            for part in ("hidden", "out"):
                weight, bias = (self.p[f"{name}/{which}_{part}{s}"] for s in ("", "_bias"))
                x = torch.einsum("bei,eio->beo", x, weight) + bias
                x = functional.gelu(x, approximate="tanh") if part == "hidden" else x
            return x

        y = mlp("attentive", mix("compress").flatten(2)).unflatten(2, (parts.shape[2], -1))
        products = parts @ (parts.transpose(-1, -2) @ y)
        machine = mlp("fm", _layer_norm(products.flatten(2)))
        machine = machine.unflatten(2, (-1, parts.shape[3]))
        merged = _layer_norm(torch.cat([machine, mix("linear")], dim=2) + mix("residual"))
        return merged.transpose(1, 2).flatten(1, 2)


class Optimizer:
    """AdamW for dense parameters; row-wise Adagrad on the rows that a batch touched."""

    def __init__(self, model: TorchKunlun, config: Any) -> None:
        """Hold the state of both."""
        self._model, self._config = model, config
        self._dense = torch.optim.AdamW(
            model.p.parameters(),
            lr=config.learning_rate,
            betas=(config.b1, config.b2),
            eps=config.eps,
            weight_decay=config.weight_decay,
        )
        start = config.table_initial_accumulator
        self._sums = {
            name: torch.full((table.num_embeddings,), start)
            for name, table in model.tables.items()
        }  # fmt: skip

    def step(self) -> None:
        """Take a step and forget the gradients."""
        config = self._config
        torch.nn.utils.clip_grad_norm_(self._model.p.parameters(), config.clip_norm)
        self._dense.step()
        self._dense.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, table in self._model.tables.items():
                if table.weight.grad is None:
                    continue
                gradient = table.weight.grad.coalesce()
                rows, values = gradient.indices()[0], gradient.values()
                sums = self._sums[name][rows] + values.square().mean(dim=1)
                self._sums[name][rows] = sums
                change = values * (-config.table_learning_rate * sums.rsqrt())[:, None]
                table.weight.index_add_(0, rows, change)
                table.weight.grad = None


def loss(model: Any, batch: TensorBatch) -> Tensor:
    """Return the mean binary cross entropy."""
    return functional.binary_cross_entropy_with_logits(model(batch), batch["labels"])


def _layer_norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=_EPSILON)


def _rms_norm(x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], eps=_EPSILON)


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """Return [B, T, N H] as [B, N, T, H]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    sin, cos = angles.sin(), angles.cos()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _tokens_first(num_seeds: int, num_tokens: int, width: int, dim: int) -> bool:
    tokens_first = num_seeds * width * num_tokens + num_tokens * width * dim
    return tokens_first <= num_seeds * width * dim + num_seeds * dim * num_tokens
