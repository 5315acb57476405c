"""A plugin for pytest: the tests' consumers ask for metadata again after 5 seconds, not 5 minutes.

kafka-python 3.0 forgets a subscription that is made while the answer to its first metadata request
arrives: ClusterMetadata.update_metadata() takes back the wish for an update that set_topics() has
made meanwhile. Against a broker that answers within a millisecond this happens to tests which
subscribe right after they have made a consumer, and such a test then waits in vain.
"""

from kafka import KafkaConsumer

KafkaConsumer.DEFAULT_CONFIG["metadata_max_age_ms"] = 5_000
