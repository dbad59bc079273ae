"""What every process needs: supervision, health, logging, clocks."""
