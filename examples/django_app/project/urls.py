"""Which view answers which path."""

from django.urls import path

from project import views

urlpatterns = [
    path("", views.index),
    path("version", views.version),
    path("upload", views.upload),
    path("slow", views.slow),
    path("events", views.events),
]
