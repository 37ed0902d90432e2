from kunlun_jax.data.own_data import Events, TableSchema

SCHEMA = TableSchema(
    name="shop",
    sparse=("item", "category", "device"),
    candidate=("item", "category"),
    dense=("price",),
    streams=(Events("view", ids=("item", "category"), dense=("seconds",)),),
)
