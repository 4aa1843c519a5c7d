// The generated Kotlin of tapfer-wallet-ffi: `scripts/bindings apps/android/bindings/generated` writes it.
plugins { kotlin("jvm") }

kotlin {
    jvmToolchain(17)
    sourceSets["main"].kotlin.srcDir("generated")
}

dependencies {
    // On the phone the Android archive of JNA takes its place (see app/build.gradle.kts).
    compileOnly("net.java.dev.jna:jna:5.17.0")
}
