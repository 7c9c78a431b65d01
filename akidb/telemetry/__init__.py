"""What AkiDB tells about itself: metrics, log lines and traces."""
