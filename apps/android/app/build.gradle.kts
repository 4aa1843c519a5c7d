plugins {
    id("com.android.application")
    kotlin("android")
}

android {
    namespace = "tapfer.app"
    compileSdk = 36

    defaultConfig {
        applicationId = "tapfer.app"
        // Android 9: StrongBox, and KeyguardManager.isDeviceLocked in a service.
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
        // Whoever builds the app says where its issuer is.
        buildConfigField("String", "ISSUER_ID", "\"${project.findProperty("issuerId") ?: ""}\"")
        buildConfigField("String", "ISSUER_SERVER", "\"${project.findProperty("issuerServer") ?: ""}\"")
    }

    buildFeatures { buildConfig = true }

    // libtapfer_wallet_ffi.so for each architecture; see the README.
    sourceSets["main"].jniLibs.srcDir("native")

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation(project(":phone"))
    implementation("net.java.dev.jna:jna:5.17.0@aar")
    implementation("androidx.work:work-runtime-ktx:2.10.1")
}
