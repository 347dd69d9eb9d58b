import torch

from gee_core.data.images import PackedImages
from pipelines.inputs.prepared_images import spaced


def test_some_of_the_images_are_of_all_classes_where_they_are_sorted_by_class():
    images = PackedImages(torch.arange(100).to(torch.uint8).reshape(100, 1, 1, 1), torch.arange(100) // 10)
    assert spaced(images, 10).labels.tolist() == list(range(10))
    assert spaced(images, 1).labels.tolist() == [0]
    assert torch.equal(spaced(images, 1000).images, images.images)
