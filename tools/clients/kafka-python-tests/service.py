"""Stands in for test/service.py, which kafka-python's source distribution leaves out.

The tests are told of a broker that runs already: they only make an ExternalService of its address.
"""


class ExternalService:
    def __init__(self, host, port):
        self.address = host, port


class SpawnedService:
    def __init__(self, arguments, environment):
        raise NotImplementedError("these tests start no broker here")
