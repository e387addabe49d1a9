"""What the jobs of the RQ suite do; a worker finds it by name."""


def square(number):
    return number**2


def length(data):
    return len(data)


def fail(text):
    raise ValueError(text)
