"""Make data in LaMP-6's shape from what every user has: git repositories and mail boxes."""
