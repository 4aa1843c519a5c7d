// What an app does around a tap, without Android: the project's own tests compile and run it.
plugins { kotlin("jvm") }

kotlin { jvmToolchain(17) }

dependencies {
    api(project(":bindings"))
    // On the phone these classes are the system's own.
    compileOnly("org.json:json:20240303")
}
