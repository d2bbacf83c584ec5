"""What a control plane alone touches: its HTTP listener. Kafka, etcd and OTLP are `shared.adapters`."""
