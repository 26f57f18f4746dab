"""Two processes on the CPU; started by test_parallel.py."""

import sys

import paddle
import paddle.distributed as dist

from mixlayers.paddle import cross_entropy, get_mixer, wrap
from tests.paddle.paddle_networks import batch, net

dist.init_parallel_env()
rank = dist.get_rank()
model = wrap(net(), layers=["layer1", "layer2"])
parallel = paddle.DataParallel(model)
optimizer = paddle.optimizer.SGD(0.1, parameters=model.parameters())
x, y = batch(seed=rank)
lams = []
for _ in range(3):
    output, target = parallel(x, target=y)
    cross_entropy(output, target).backward()
    optimizer.step()
    optimizer.clear_grad()
    lams.append(get_mixer(model).last.lam)
total = sum(float(p.abs().sum()) for p in model.parameters() if not p.stop_gradient)
with open(f"{sys.argv[1]}/{rank}", "w") as file:
    print(total, *lams, file=file)
