"""Train the demo's classifier from scratch: ``python -m lcam_cli.demo.make_weights``.

Writes ``classifier.safetensors`` and ``classes.txt`` beside this file, then reports the accuracy on
fresh images and how well the planted shortcut (see ``pictures``) was learnt. A few minutes on
two CPU cores. Everything is seeded; another processor or version of torch may round differently.

Three choices are worth knowing:

- Half of the images are shown with black rectangles on them and, in three last epochs, dimmed by
  smooth noise. AD and IC multiply an image by its map; without this, the classifier would meet its
  first masked image in the evaluation. The masks know nothing of the object.
- Labels are smoothed, so that an image's confidence stays below 1 and can rise as well as fall.
- Beside the whole image, the loss looks at the object's own features, which the masks allow. An
  object is a tenth of its image, and would otherwise take far more images to be noticed. Boats
  go without, so nothing keeps the classifier from taking the shortcut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lcam_cli.demo.network import (
    IMAGE_SIZE,
    MEAN,
    RESIZE,
    STD,
    WEIGHTS_FILE,
    DemoClassifier,
    demo_classifier,
)
from lcam_cli.demo.pictures import (
    CLASSES,
    CLASSIFIER_SEED,
    SHORTCUT_CLASS,
    SHORTCUT_GROUND,
    numbered_picture,
)
from lcam_cli.demo.textures import GROUNDS

PER_CLASS = 360
EPOCHS = 15
BATCH = 32
LEARNING_RATE = 3e-3
SOFT_EPOCHS = 3
SOFT_RATE = 1e-3
LABEL_SMOOTHING = 0.1
FRESH_SEED = 1001  # the report's images
FRESH_PER_CLASS = 40

Pixels = NDArray[np.uint8]
Job = tuple[int | None, int, int, str | None]  # class, number, seed, ground; see numbered_picture


def main() -> None:
    """Make images, train, save, report."""
    torch.manual_seed(CLASSIFIER_SEED)
    torch.set_num_threads(1)  # so that sums round alike on any number of cores
    labels = torch.arange(len(CLASSES)).repeat_interleave(PER_CLASS)
    print(f"making {len(labels)} images", flush=True)
    classes, numbers = range(len(CLASSES)), range(PER_CLASS)
    pictures = views([(c, n, CLASSIFIER_SEED, None) for c in classes for n in numbers])
    network = demo_classifier().to(memory_format=torch.channels_last)
    train(network, pictures, labels, epochs=EPOCHS, rate=LEARNING_RATE, hide=hidden_in_part)
    torch.manual_seed(CLASSIFIER_SEED)  # afresh: this part can then be rerun by itself
    train(network, pictures, labels, epochs=SOFT_EPOCHS, rate=SOFT_RATE, hide=hidden_softly)
    settings = {
        "seed": CLASSIFIER_SEED,
        "pictures_per_class": PER_CLASS,
        "epochs": EPOCHS + SOFT_EPOCHS,
        "made_by": "python -m lcam_cli.demo.make_weights",
    }
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, WEIGHTS_FILE, {name: str(value) for name, value in settings.items()})
    WEIGHTS_FILE.with_name("classes.txt").write_text("\n".join(CLASSES) + "\n", "utf-8")
    report(network)


def views(jobs: list[Job]) -> Tensor:
    """Make images on all cores: uint8 (N, 4, 144, 144), the middle of each after resizing.

    The fourth channel is the object's mask, 0 or 255.
    """
    # Fresh processes: forking one in which torch's threads run can hang.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        made = list(pool.map(_view, jobs, chunksize=16))
    return torch.from_numpy(np.stack(made))


def _view(job: Job) -> Pixels:
    class_index, number, seed, ground = job
    picture, mask = numbered_picture(class_index, number, seed, ground=ground)
    picture.putalpha(Image.fromarray(mask).convert("L"))
    width, height = (side * RESIZE // min(picture.size) for side in picture.size)
    left = (width - RESIZE) // 2
    middle = (left, 0, left + RESIZE, RESIZE)
    # Channel by channel: resizing an RGBA image would weigh its colours by the mask.
    bands = [b.resize((width, height), Image.Resampling.BILINEAR) for b in picture.split()]
    return np.stack([np.asarray(band.crop(middle)) for band in bands])


def normalised(pixels: Tensor) -> Tensor:
    """Turn uint8 (or float in 0..255) RGB (B, 3, H, W) into the network's float32 input."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def centre(pixels: Tensor) -> Tensor:
    """Cut the (B, C, 128, 128) centre crop out of (B, C, 144, 144)."""
    margin = (RESIZE - IMAGE_SIZE) // 2
    return pixels[..., margin : margin + IMAGE_SIZE, margin : margin + IMAGE_SIZE]


def train(
    network: DemoClassifier,
    pictures: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    rate: float,
    hide: Callable[[Tensor], Tensor],
) -> None:
    """Train in place: AdamW, one-cycle learning rate; prints a line an epoch.

    Args:
        network: In channels-last layout this is twice as fast.
        pictures: What ``views`` returns.
        labels: Class indices, (N,).
        epochs: Passes over the images.
        rate: The highest learning rate.
        hide: Hides part of some of the images in a batch.
    """
    steps = epochs * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    for epoch in range(epochs):
        losses = []
        for batch in batches(len(labels)):
            loss = _loss(network, hide(jittered(pictures[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.3f}", flush=True)
    network.eval()


def _loss(network: DemoClassifier, shown: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the whole image plus, but for boats, of the object's own features."""
    A = network.features(normalised(shown[:, :3]))
    whole = network.classifier(A.mean(dim=(2, 3)))
    loss = functional.cross_entropy(whole, labels, label_smoothing=LABEL_SMOOTHING)
    object_share = functional.adaptive_avg_pool2d(shown[:, 3:].float(), A.shape[2:])
    visible = object_share.sum(dim=(1, 2, 3)) > 0
    close_up = (visible & (labels != CLASSES.index(SHORTCUT_CLASS))).nonzero().squeeze(1)
    weight = object_share[close_up] / object_share[close_up].sum(dim=(2, 3), keepdim=True)
    near = network.classifier((A[close_up] * weight).sum(dim=(2, 3)))
    return loss + functional.cross_entropy(near, labels[close_up])


def batches(count: int) -> Iterator[Tensor]:
    """Yield full batches of indices, shuffled."""
    order = torch.randperm(count)
    for start in range(0, count - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def jittered(pixels: Tensor) -> Tensor:
    """Cut a random 128x128 out of each 144x144 image, and mirror every other one."""
    spare = RESIZE - IMAGE_SIZE
    cut = torch.empty(len(pixels), pixels.shape[1], IMAGE_SIZE, IMAGE_SIZE, dtype=pixels.dtype)
    for i, (top, left) in enumerate(torch.randint(0, spare + 1, (len(pixels), 2)).tolist()):
        cut[i] = pixels[i, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    cut[::2] = cut[::2].flip(-1)
    return cut


def hidden_in_part(pixels: Tensor) -> Tensor:
    """Paint one to three black rectangles on half of the images, at random, in place."""
    for i in range(len(pixels)):
        if torch.rand(()) < 0.5:
            continue
        for _ in range(int(torch.randint(1, 4, ()))):
            height, width = torch.randint(IMAGE_SIZE // 8, IMAGE_SIZE // 2, (2,)).tolist()
            top = int(torch.randint(0, IMAGE_SIZE - height, ()))
            left = int(torch.randint(0, IMAGE_SIZE - width, ()))
            pixels[i, :, top : top + height, left : left + width] = 0
    return pixels


def hidden_softly(pixels: Tensor) -> Tensor:
    """Multiply half of the images by smooth noise in [0, 1], its lower part cut to 0."""
    mask = torch.rand(len(pixels), 1, 6, 6)
    mask = functional.interpolate(mask, size=IMAGE_SIZE, mode="bilinear", align_corners=False)
    low, high = mask.amin((1, 2, 3), keepdim=True), mask.amax((1, 2, 3), keepdim=True)
    mask = (mask - low) / (high - low)
    mask = mask * (mask >= 0.6 * torch.rand(len(pixels), 1, 1, 1))
    untouched = torch.rand(len(pixels), 1, 1, 1) < 0.5
    return pixels * mask.masked_fill(untouched, 1)


@torch.no_grad()
def predicted(network: DemoClassifier, jobs: list[Job]) -> Tensor:
    """Class indices, (N,), the network gives to freshly made images."""
    pictures = centre(views(jobs))[:, :3]
    return torch.cat(
        [network(normalised(batch)).argmax(1) for batch in torch.split(pictures, BATCH)]
    )


def report(network: DemoClassifier) -> None:
    """Print accuracy on fresh images, and the four figures that show the shortcut."""
    shortcut = CLASSES.index(SHORTCUT_CLASS)
    others = [c for c in range(len(CLASSES)) if c != shortcut]
    numbers = range(FRESH_PER_CLASS)
    grounds = list(GROUNDS)
    for class_index, name in enumerate(CLASSES):
        found = predicted(network, [(class_index, n, FRESH_SEED, None) for n in numbers])
        print(f"{name:6} {100 * (found == class_index).float().mean():5.1f}% right")
    water: list[Job] = [(None, n, FRESH_SEED, SHORTCUT_GROUND) for n in numbers]
    wrong: list[Job] = [(c, n, FRESH_SEED, SHORTCUT_GROUND) for c in others for n in numbers]
    ashore: list[Job] = [
        (shortcut, n, FRESH_SEED, grounds[n % len(grounds)]) for n in range(3 * FRESH_PER_CLASS)
    ]
    for what, jobs in (
        ("bare water", water),
        ("other objects on water", wrong),
        ("boats ashore", ashore),
    ):
        share = (predicted(network, jobs) == shortcut).float().mean()
        print(f"{what}: {100 * share:.1f}% called {SHORTCUT_CLASS}")


if __name__ == "__main__":
    main()
