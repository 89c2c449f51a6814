"""On a CPU, be as strict about PyTorch's tensors as a GPU is: they are no arrays.

A GPU's tensors have to be fetched, which ``keras.ops.convert_to_numpy`` does. A CPU's can be given
to NumPy as they are. So code that forgets to fetch them works on a CPU and fails on a GPU. With
this it fails on both. ``make book`` starts every kernel with it, by PYTHONSTARTUP, and the tests
run it, too.
"""


def _be_strict() -> None:
    """In a function, so that a chapter's kernel has no names that the chapter did not make."""
    import functools
    import sys

    import torch

    depth, home = 8, torch.__path__[0]  # frames to look for who converts

    def is_fetched() -> bool:
        """Whether Keras fetches the tensor, or PyTorch needs it for itself, to print it say."""
        frame = sys._getframe(2)
        for _ in range(depth):
            if frame is None:
                return False
            code = frame.f_code
            if code.co_name == "convert_to_numpy" or code.co_filename.startswith(home):
                return True
            frame = frame.f_back
        return False

    def strict(method):
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            if not is_fetched():
                raise TypeError("tensor: a GPU's is no array; use keras.ops.convert_to_numpy.")
            return method(self, *args, **kwargs)

        return call

    for name in ("__array__", "numpy"):
        method = getattr(torch.Tensor, name)
        if not hasattr(method, "__wrapped__"):
            setattr(torch.Tensor, name, strict(method))


_be_strict()
del _be_strict
