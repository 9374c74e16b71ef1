"""Real services on loopback for the tests and the demo: Apache Kafka, Apache Flink, Prism."""

from services.broker import Kafka, kafka
from services.cluster import Flink, flink
from services.downloads import ServiceMissing, jars, prism

__all__ = ["Flink", "Kafka", "ServiceMissing", "flink", "jars", "kafka", "prism"]
