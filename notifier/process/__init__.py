"""The process around the product: start, sweeps, gauges, shutdown."""
